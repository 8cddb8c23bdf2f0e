"""The model host: one process per run that owns the models, the store and the scoring.

The process that runs pytest starts it, hands it a configuration on standard input and keeps that pipe open: when the
pipe closes, whatever the reason, the host ends. Test processes connect to its socket, send the plan (which samples, in
which order) and wait for records; nobody else on the machine can connect: the socket lies in a directory of mode 700,
and the first frame must hold the run's token.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pytest_trustllm import wire
from pytest_trustllm.budget import Ledger, Limit, cost
from pytest_trustllm.errors import GenerationError, ModelError, SuiteError, TrustLLMError, one_line
from pytest_trustllm.generation import Engine, loaded
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import LoadSettings, Model, ModelSpec, ends_the_task
from pytest_trustllm.records import Generation, Request, Response, Status
from pytest_trustllm.registry import Registry
from pytest_trustllm.runner import Outcome, Runner, dump
from pytest_trustllm.samples import Data, Entry, open_data
from pytest_trustllm.store import Shelf
from pytest_trustllm.suites import Task, read_suite
from pytest_trustllm.transcript import EMPTY, Transcript

_log = logging.getLogger(__name__)
_PATIENCE = 2.0
"""Seconds that the host takes to leave in good order after its parent is gone."""
_FEED = 32
"""Samples started at once before other work of the loop gets its turn: a test that waits is such work."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """What of an outcome stays in memory; its texts are in the transcript.

    Attributes:
        status: What the test shows.
        record: As JSON text.
        fatal: No further sample of this model can succeed.
        place: Where its texts begin in the transcript, and their length.
    """

    status: Status
    record: str
    fatal: bool
    place: tuple[int, int]


class AttachedModel:
    """The model behind an overridden ``trust_model`` fixture: every test process that made one answers a share.

    Args:
        name: Label of the model.
        max_concurrency: Requests in flight over all processes.
        revision: What the user says distinguishes this version of the app; without it nothing is stored.
    """

    def __init__(self, name: str, max_concurrency: int, revision: str | None) -> None:
        self.info: Mapping[str, Any] = {"provider": "fixture", "id": name, "revision": revision}
        self.stored = revision is not None
        self.max_concurrency = max_concurrency
        self._free: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._open: dict[int, tuple[asyncio.Future[Response | None], asyncio.StreamWriter]] = {}
        self._next = 0
        self._gone: set[asyncio.StreamWriter] = set()

    async def answer(self, request: Request) -> Response:
        """Send the request to a process that has a free place; if that process dies, to another."""
        while True:
            writer = await self._free.get()
            if writer in self._gone:
                continue
            self._next += 1
            number, future = self._next, asyncio.get_running_loop().create_future()
            self._open[number] = (future, writer)
            writer.write(wire.encode({"ask": number, "messages": [list(m) for m in request.messages]}))
            response: Response | None = await future
            if response is not None:
                return response

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, places: int) -> None:
        """Take one process's answers until it leaves."""
        for _ in range(places):
            self._free.put_nowait(writer)
        while (message := await wire.read_frame(reader)) is not None:
            future, _ = self._open.pop(message.pop("answer"))
            future.set_result(Response(**message))
            self._free.put_nowait(writer)
        self._gone.add(writer)
        for number in [n for n, (_, w) in self._open.items() if w is writer]:
            self._open.pop(number)[0].set_result(None)

    async def close(self) -> None:
        """Nothing to let go of: the processes own their models."""


class AbsentModel:
    """Stands where a role's model could not be loaded, and says why."""

    stored = False
    max_concurrency = 1

    def __init__(self, name: str, reason: str) -> None:
        self.info: Mapping[str, Any] = {"provider": "none", "id": name, "error": reason}

    async def answer(self, request: Request) -> Response:
        """Return the reason as an error."""
        return Response(error=self.info["error"], fatal=True)

    async def close(self) -> None:
        """Nothing to let go of."""


class Host:
    """State of one run.

    Args:
        config: What the test process handed over.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._token = config["token"].encode("ascii")
        self._registry = Registry()
        self._registry.restore(config["registry"])
        self._data: Data = open_data(config["data"], Path(config["root"]))
        self._settings = LoadSettings(**config["load"])
        self._tasks: dict[str, Task] = {}
        self._readers: dict[str, list[Task]] = {}
        self._entries: dict[str, dict[str, Entry]] = {}
        self._engines: dict[str, asyncio.Future[Engine]] = {}
        self._runners: dict[str, asyncio.Task[Runner]] = {}
        self._outcomes: dict[str, asyncio.Task[_Kept]] = {}
        self._plan: dict[str, Any] | None = None
        self._attached: AttachedModel | None = None
        self._errors: dict[str, str] = {}
        self._transcript = Transcript(Path(config["transcript"]))
        self._done = {"planned": 0, "done": 0}
        self._ledger = Ledger([Limit(*limit) for limit in config["budget"]])
        self._estimate: dict[str, Any] | None = None
        self._work: set[asyncio.Task[None]] = set()
        for path, builtin in config["suites"]:
            self._add(path, builtin)

    def _add(self, path: str, builtin: bool) -> None:
        suite = read_suite(Path(path), self._registry, root=Path(self._config["root"]), builtin=builtin)
        for task in suite.tasks:
            if task.reads is None:
                self._tasks[task.id] = task
            else:
                self._readers.setdefault(f"{task.dimension}/{task.reads}", []).append(task)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        hello = await wire.read_frame(reader, wire.MAX_HELLO)
        token = hello.get("token") if isinstance(hello, dict) else None
        if not isinstance(token, str) or not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            writer.close()
            return
        with contextlib.suppress(ConnectionError):
            while (message := await wire.read_frame(reader)) is not None:
                try:
                    if message["op"] == "provide":
                        await self._provided(message).serve(reader, writer, message["places"])
                        break
                    reply = await getattr(self, f"_op_{message['op']}")(message)
                except TrustLLMError as e:
                    reply = {"error": str(e)}
                except Exception as e:  # noqa: BLE001 - a bug of ours must not leave a test waiting for its answer
                    _log.exception("a call failed")
                    reply = {"error": f"the model host failed: {type(e).__name__}: {one_line(e)}"}
                writer.write(wire.encode(reply))
                await writer.drain()
        writer.close()

    def _provided(self, message: Mapping[str, Any]) -> AttachedModel:
        if self._attached is None:
            self._attached = AttachedModel(message["name"], message["max_concurrency"], message["revision"])
            try:
                self._engine_of("fixture").set_result(self._engine(self._attached))
            except TrustLLMError as e:  # the store cannot be used
                self._engine_of("fixture").set_exception(e)
        return self._attached

    async def _op_plan(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take the plan of the first test process; the others collected the same."""
        if self._plan is None:
            self._plan = message
            self._done["planned"] = len(message["keys"])
            self._ledger.start()
            self._background(self._feed(message["keys"]))
        return {"ok": True}

    async def _feed(self, keys: Sequence[str]) -> None:
        if self._config["budget"]:
            await self._foresee(keys)
        for start in range(0, len(keys), _FEED):
            for key in keys[start : start + _FEED]:
                self._outcome(key)
            await asyncio.sleep(0)

    async def _foresee(self, keys: Sequence[str]) -> None:
        """Estimate what the models under test will be asked; a judge's questions depend on their answers."""
        found: dict[str, Any] = {"requests": 0, "input_tokens": 0, "output_tokens_at_most": 0, "usd_at_most": 0.0}
        for number, key in enumerate(keys):
            model, task_id, sample_id = key.rsplit("|", 2)
            try:
                runner, task = await self._runner(model), self._tasks[task_id]
                requests = runner.requests(task, self._data.sample(task, self._entry(task, sample_id)))
            except TrustLLMError:  # the sample's own outcome says so
                continue
            price = self._price(model)
            for request in requests:
                tokens, most = runner.target.foresee(request)
                found["requests"] += most > 0
                found["input_tokens"] += tokens
                found["output_tokens_at_most"] += most
                if price is None:
                    found["usd_at_most"] = None
                elif found["usd_at_most"] is not None:
                    found["usd_at_most"] += cost(price, tokens, most)
            if number % _FEED == 0:
                await asyncio.sleep(0)
        self._estimate = found

    def _price(self, model: str) -> Mapping[str, float] | None:
        fields: Mapping[str, Any] = self._config["models"].get(model, {})
        price: Mapping[str, float] | None = fields.get("options", {}).get("price")
        return price

    def prepare(self) -> None:
        """Load the models under test while tests are collected."""

        async def load(model: str) -> None:
            with contextlib.suppress(TrustLLMError):  # the first sample says why
                await self._target(model)

        if not self._config["fixture"]:
            for model in self._config["models"]:
                self._background(load(model))

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _op_need(self, message: dict[str, Any]) -> dict[str, Any]:
        """Wait for the first key and return every record of the given keys that is ready, its texts being on disk."""
        keys = message["keys"]
        await self._outcome(keys[0])
        done = {key: task.result() for key in keys if (task := self._outcomes.get(key)) is not None and task.done()}
        self._transcript.flush()
        if self._transcript.lost is not None:
            done = {key: self._lost(kept) for key, kept in done.items()}
        return {"records": {key: [kept.status, kept.record, kept.fatal] for key, kept in done.items()}}

    async def _op_again(self, message: dict[str, Any]) -> dict[str, Any]:
        """Forget a sample that ended in an error, so that whoever needs it next has it asked again."""
        task = self._outcomes.get(message["key"])
        if task is not None and task.done() and task.result().status == "error":
            del self._outcomes[message["key"]]
            self._done["done"] -= 1
        return {"ok": True}

    async def _op_detail(self, message: dict[str, Any]) -> dict[str, Any]:
        kept = await self._outcome(message["key"])
        found = self._transcript.read(*kept.place)
        if found is None:
            raise GenerationError(self._no_room())
        return {"transcript": found}

    async def _op_ask(self, message: dict[str, Any]) -> dict[str, Any]:
        engine = await self._target(message["model"])
        generation = Generation(**{**message["generation"], "stop": tuple(message["generation"]["stop"])})
        messages = tuple((role, content) for role, content in message["messages"])
        response = await engine.ask(Request(messages, generation, message["seed"]))
        return {"response": dataclasses.asdict(response)}

    async def _op_status(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return how far the run is; asked again and again while it lasts."""
        usage = [e.usage for e in self._ready().values()]
        costs = [u.cost_usd for u in usage if u.cost_usd is not None]
        return {
            **self._done,
            "requests": sum(u.requests for u in usage),
            "cached": sum(u.cached for u in usage),
            "tokens": sum(u.input_tokens + u.output_tokens for u in usage),
            "cost_usd": sum(costs) if costs else None,
            "estimate": self._estimate,
        }

    def _ready(self) -> dict[str, Engine]:
        return {n: f.result() for n, f in self._engines.items() if f.done() and not f.exception()}

    async def _op_finish(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return what the results file records about models and their use."""
        self._transcript.flush()
        engines = self._ready()
        return {
            "plan": self._plan,
            "models": {n: dict(e.model.info) for n, e in engines.items()},
            "usage": {n: dataclasses.asdict(e.usage) for n, e in engines.items()},
            "errors": self._errors,
            "budget": {**self._ledger.summary(), "estimate": self._estimate} if self._config["budget"] else None,
            "data": dict(self._data.hashes),
        }

    def _outcome(self, key: str) -> asyncio.Task[_Kept]:
        if key not in self._outcomes:
            self._outcomes[key] = asyncio.ensure_future(self._run(key))
        return self._outcomes[key]

    async def _run(self, key: str) -> _Kept:
        model, task_id, sample_id = key.rsplit("|", 2)
        try:
            task = self._tasks[task_id]
            sample = self._data.sample(task, self._entry(task, sample_id))
            readers = self._readers.get(task_id, [])
            outcome = await (await self._runner(model)).run(task, sample, readers)
            texts = dump(outcome.transcript)
        except BaseException as e:  # one sample must not spoil those that are fetched together with it
            if ends_the_task(e):
                raise
            if not isinstance(e, TrustLLMError):
                _log.exception("a sample failed")
            reason = one_line(e if isinstance(e, TrustLLMError) else f"{type(e).__name__}: {e}")
            record: dict[str, Any] = {"task": task_id, "id": sample_id, "fingerprint": "", "status": "error"}
            record |= {"value": None, "reason": reason, "observed": {}, "group": {}, "parity": None, "also": {}}
            outcome, texts = Outcome("error", record, {}, fatal=isinstance(e, ModelError | GenerationError)), EMPTY
        self._done["done"] += 1
        place = self._transcript.add(key, texts)
        return _Kept(outcome.status, dump(outcome.record), outcome.fatal, place)

    def _lost(self, kept: _Kept) -> _Kept:
        """Return what becomes of a sample whose texts cannot be written: the run cannot go on."""
        record = {**json.loads(kept.record), "status": "error", "value": None, "reason": self._no_room()}
        return dataclasses.replace(kept, status="error", record=dump(record), fatal=True)

    def _no_room(self) -> str:
        where = Path(self._config["transcript"]).parent
        why = self._transcript.lost
        return one_line(f"the run's texts cannot be written to {where}: {why}; make room, or set TMPDIR")

    def _entry(self, task: Task, sample_id: str) -> Entry:
        if task.id not in self._entries:
            self._entries[task.id] = {e.id: e for e in self._data.entries(task)}
        try:
            return self._entries[task.id][sample_id]
        except KeyError:
            raise SuiteError(f"{task.id}: no sample {sample_id!r}") from None

    async def _runner(self, model: str) -> Runner:
        if model not in self._runners:
            self._runners[model] = asyncio.ensure_future(self._make_runner(model))
        return await self._runners[model]

    async def _make_runner(self, model: str) -> Runner:
        target = await self._target(model)
        roles = {}
        for role in self._roles_in_use():
            if role in self._config["roles"]:
                roles[role] = await self._role(role)
        return Runner(
            target, roles, self._config["seed"], epochs=self._config["epochs"], votes=self._config["judge_votes"]
        )

    def _roles_in_use(self) -> list[str]:
        planned = {key.rsplit("|", 2)[1] for key in (self._plan or {}).get("keys", ())}
        tasks = [t for name in planned for t in (self._tasks[name], *self._readers.get(name, ()))]
        return sorted({role for t in tasks for role in t.scorer.roles})

    async def _target(self, model: str) -> Engine:
        if self._config["fixture"]:
            return await self._engine_of("fixture")
        return await self._load(model, self._config["models"][model])

    async def _role(self, role: str) -> Engine:
        try:
            return await self._load(role, self._config["roles"][role])
        except ModelError as e:  # the target can still be asked; this role's questions stay open, with this reason
            self._errors[role] = str(e)
            return self._engine(AbsentModel(role, str(e)))

    def _engine_of(self, name: str) -> asyncio.Future[Engine]:
        if name not in self._engines:
            self._engines[name] = asyncio.get_running_loop().create_future()
        return self._engines[name]

    async def _load(self, name: str, fields: Mapping[str, Any]) -> Engine:
        if name in self._engines:
            return await asyncio.shield(self._engines[name])
        future = self._engine_of(name)
        spec = ModelSpec(**fields)
        try:
            model = await loaded(lambda: self._made(spec))
            future.set_result(self._engine(model, spec.options.get("price")))
        except TrustLLMError as e:
            future.set_exception(e)
        except Exception as e:  # noqa: BLE001 - a provider of the user's own may return anything
            future.set_exception(_unloaded(spec, e))
        return await future

    def _made(self, spec: ModelSpec) -> Model:
        """Load a model, in a thread."""
        try:
            return catalogue.provider_of(spec, self._registry).load(spec, self._settings)
        except TrustLLMError:
            raise
        except BaseException as e:
            raise _unloaded(spec, e) from e

    def _engine(self, model: Model, price: Mapping[str, float] | None = None) -> Engine:
        shelf = Shelf(Path(self._config["store"]), model.info) if model.stored else None
        return Engine(
            model,
            shelf,
            fresh=self._config["fresh"],
            offline=self._config["offline"],
            ledger=None if getattr(model, "free", False) else self._ledger,
            price=price,
        )

    async def close(self) -> None:
        """Close all engines that came up."""
        for future in self._engines.values():
            if future.done() and not future.exception():
                await future.result().close()


def _unloaded(spec: ModelSpec, error: BaseException) -> ModelError:
    """Return the one line that whatever a model library raises becomes."""
    return ModelError(f"model {spec.name!r} cannot be loaded: {type(error).__name__}: {one_line(error)}")


async def _serve(config: Mapping[str, Any], ready: int) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)
        time.sleep(_PATIENCE)
        _leave(config)  # a model that is being loaded, or a scorer that computes, holds the loop up

    threading.Thread(target=watch, name="trustllm-parent", daemon=True).start()
    host = Host(config)
    if wire.unix_sockets_work(config["directory"]):
        path = f"{config['directory']}/host"
        server: asyncio.Server = await asyncio.start_unix_server(host.connection, path)
        address = f"unix:{path}"
    else:
        server = await asyncio.start_server(host.connection, "127.0.0.1", 0)
        address = f"tcp:{server.sockets[0].getsockname()[1]}"
    os.write(ready, json.dumps({"address": address}).encode() + b"\n")
    host.prepare()
    await ended.wait()
    server.close()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(host.close(), _PATIENCE / 2)
    _leave(config)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 1)
        if not part:
            os._exit(0)
        line += part
    return line


def main() -> None:
    """Run the host until standard input closes."""
    for signal_ in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; pytest decides what they mean
        signal.signal(signal_, signal.SIG_IGN)
    ready = os.dup(1)
    os.dup2(2, 1)  # a library that prints must not talk into the protocol
    config = json.loads(_first_line())
    sys.path[:] = config["sys_path"]
    importlib.invalidate_caches()
    try:
        asyncio.run(_serve(config, ready))
    except TrustLLMError as e:
        os.write(ready, json.dumps({"error": str(e)}).encode() + b"\n")
    except Exception as e:  # noqa: BLE001 - a user's module may raise anything when it is imported here
        message = f"the model host did not start: {type(e).__name__}: {one_line(e)}"
        os.write(ready, json.dumps({"error": message}).encode() + b"\n")
    _leave(config)


def _leave(config: Mapping[str, Any]) -> NoReturn:
    """End the process at once: a model's thread may be in the middle of a batch; its answers so far are stored."""
    shutil.rmtree(config["directory"], ignore_errors=True)
    sys.stderr.flush()
    os._exit(0)
