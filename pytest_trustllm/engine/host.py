"""The model host: one process per run that owns the models, the store and the scoring.

Test processes connect to its socket (see :mod:`~pytest_trustllm.engine.host_process`), send the plan (which samples, in
which order) and wait for records.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.engine.asking import Ahead, Asking, read_gates, shuffled_units
from pytest_trustllm.engine.budget import Ledger, Limit, cost
from pytest_trustllm.engine.guard import GuardEngine
from pytest_trustllm.engine.keys import split_key
from pytest_trustllm.engine.messages import (
    NOT_NEEDED,
    AppCall,
    AskCall,
    AskReply,
    BudgetReport,
    DetailReply,
    Done,
    FinishReply,
    HostConfig,
    KeyCall,
    NeedCall,
    NeedReply,
    Plan,
    ReadyCall,
    StatusReply,
    StopPlan,
)
from pytest_trustllm.engine.model_pool import ModelPool
from pytest_trustllm.engine.runner import Asked, Runner
from pytest_trustllm.engine.sample_source import SampleSource
from pytest_trustllm.engine.scored_samples import ScoredSamples
from pytest_trustllm.errors import ModelError, TrustLLMError, one_line
from pytest_trustllm.formats import EstimatedCost
from pytest_trustllm.gates.deciding import SourcePlan
from pytest_trustllm.gates.dropping import EarlierSample
from pytest_trustllm.models import frames
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.models.guard.templates import template_of
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.samples import DataSource, open_data
from pytest_trustllm.types import Generation, Request, Sample, Tool

_log = logging.getLogger(__name__)
_PLAN_SECONDS = 60.0
"""How long models are not started because no test process has sent the plan; one that failed to collect never will."""
_SAMPLES_AT_ONCE = 32
"""Samples started before other work of the loop gets its turn: a test that waits is such work."""


_LEAST_IN_FLIGHT = 8
"""Samples that are under way where gates may be decided early, besides those that keep the models busy."""
_BATCH = 32
"""Requests that keep a model busy that does not say how many it computes at once."""
_JUDGED_TOGETHER = 64
"""Further samples under way where judges or classifiers read the answers, so that they can work in batches too."""
_PER_TURN = 1000
"""Further samples under way where a judge needs the GPUs of the model under test: every change takes minutes."""


def _data_of(config: HostConfig, root: Path) -> DataSource:
    card = config["card"]
    return open_data(config["data"], root, None if card is None else Path(card), config["audited"])


class Host:
    """State of one run.

    Args:
        config: What the test process handed over.
        capture_prints: Keep what scorers print for the samples file, instead of letting it through.
    """

    def __init__(self, config: HostConfig, *, capture_prints: bool = True) -> None:
        registry = Registry()
        registry.restore(config["registry"])
        root = Path(config["root"])
        self._config = config
        self._capture_prints = capture_prints
        self._token = config["token"].encode("ascii")
        self._ledger = Ledger([Limit(*limit) for limit in config["budget"]])
        self._models = ModelPool(config, registry, self._ledger)
        self._source = SampleSource(config["suites"], _data_of(config, root), registry, root)
        self._runners: dict[str, asyncio.Task[Runner]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._app: AppCall | None = None
        self._plan: Plan | None = None
        self._planned = asyncio.Event()
        self._estimate: EstimatedCost | None = None
        self._asking: dict[str, Asking] = {}
        self._asking_known = asyncio.Event()
        self.samples = ScoredSamples(self._source, self._runner, Path(config["transcript"]))

    @property
    def planned(self) -> int:
        """Samples of the plan that are asked, as far as is known; 0 as long as there is no plan."""
        if self._plan is None:
            return 0
        return len(self._plan["keys"]) - sum(asking.unneeded for asking in self._asking.values())

    # --- connections --------------------------------------------------------------------------------------------------

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        hello = await frames.read_frame(reader, frames.MAX_HELLO)
        if not self.is_ours(hello):
            writer.close()
            return
        with contextlib.suppress(ConnectionError):
            while (message := await frames.read_frame(reader)) is not None:
                try:
                    if message["op"] == "provide":
                        await self.provide(message, reader, writer)
                        break
                    reply = await OPERATIONS[message["op"]](self, message)
                except TrustLLMError as e:
                    reply = {"error": str(e)}
                except Exception as e:  # noqa: BLE001 - a bug of ours must not leave a test waiting for its answer
                    _log.exception("a call failed")
                    reply = {"error": f"the model host failed: {type(e).__name__}: {one_line(e)}"}
                writer.write(frames.encode(reply))
                await writer.drain()
        writer.close()

    def is_ours(self, hello: object) -> bool:
        """Return whether a first frame, which anybody may have sent, holds the run's token."""
        token = hello.get("token") if isinstance(hello, dict) else None
        if not isinstance(token, str):
            return False
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    async def provide(self, message: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send requests to the client's app until the client leaves."""
        model = self._models.attach(message)
        await model.serve(reader, writer, message["places"])

    # --- operations ---------------------------------------------------------------------------------------------------

    async def take_app(self, call: AppCall) -> Done:
        """Take the app of a test process; all processes must have the same one, as any of them may answer."""
        if self._app is None:
            self._app = call
        first = (self._app["name"], self._app["where"])
        if (call["name"], call["where"]) != first:
            raise ModelError(
                f"trust_model is given twice: {first[0]!r} by {first[1]}, {call['name']!r} by {call['where']}; "
                "a run tests one app: run pytest for each of them"
            )
        return {"ok": True}

    async def take_plan(self, plan: Plan) -> Done:
        """Take the plan of the first test process; the others collected the same."""
        if self._plan is None:
            self._plan = plan
            self._planned.set()
            self._ledger.start()
            self._run_in_background(self._start(plan))
        return {"ok": True}

    async def ready(self, call: ReadyCall) -> Done:
        """Start models that take long, and wait until they answer, unless the store has all answers of this run.

        Raises:
            ModelError: A model cannot be started.
        """
        if self._config["offline"]:
            return {"ok": True}
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._planned.wait(), _PLAN_SECONDS)
        engines = [await self._models.target(model) for model in call["models"]]
        if not await self._will_ask():
            return {"ok": True}
        for role in call["roles"]:
            engine = await self._models.role(role)
            if engine is not None:
                engines.append(engine)
        for engine in engines:
            if engine.turn.is_first:
                await engine.turn.enter()
                try:
                    await engine.start()
                finally:
                    engine.turn.leave()
        return {"ok": True}

    async def _will_ask(self) -> bool:
        """Return whether a model under test will be sent anything; what a judge is asked depends on the answers."""
        for number, key in enumerate(self._plan["keys"] if self._plan is not None else ()):
            model, task_id, sample_id = split_key(key)
            try:
                runner = await self._runner(model)
                foreseen = await runner.foresee(self._source.task(task_id), self._source.sample(task_id, sample_id))
            except TrustLLMError:  # the sample's own record shows the error
                continue
            if any(tokens != (0, 0) for tokens in foreseen):
                return True
            if number % _SAMPLES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return False

    async def need(self, call: NeedCall) -> NeedReply:
        """Wait for the first sample and return the record of every given sample that has one, or is not needed."""
        keys = call["keys"]
        asking = await self._asking_of(keys[0])
        if asking is None:
            await self.samples.start(keys[0])
        else:
            await asking.outcome(keys[0])
        records: dict[str, list[Any]] = {}
        for key in keys:
            reason = self._why_unneeded(key)
            if reason is not None:
                records[key] = [NOT_NEEDED, reason, False]
        for key, sample in self.samples.ready(keys).items():
            records[key] = [sample.status, sample.record, sample.fatal]
        return {"records": records}

    async def _asking_of(self, key: str) -> Asking | None:
        """Return what decides when a sample is asked; None: it is asked as soon as somebody wants it."""
        if self._plan is None or self._plan["stop"] is None:
            return None
        await self._asking_known.wait()
        asking = self._asking.get(split_key(key).model)
        return asking if asking is not None and asking.has(key) else None

    def _why_unneeded(self, key: str) -> str | None:
        asking = self._asking.get(split_key(key).model)
        return None if asking is None else asking.why_unneeded(key)

    async def again(self, call: KeyCall) -> Done:
        """Let a sample that ended in an error run again when it is next wanted."""
        self.samples.forget_error(call["key"])
        return {"ok": True}

    async def detail(self, call: KeyCall) -> DetailReply:
        """Return the texts of a sample."""
        return {"transcript": await self.samples.transcript(call["key"])}

    async def ask(self, call: AskCall) -> AskReply:
        """Send one request of a test's own."""
        engine = await self._models.target(call["model"])
        fields = call["generation"]
        generation = Generation(
            fields["temperature"], fields["max_new_tokens"], tuple(fields["stop"]), fields["thinking_tokens"]
        )
        messages = tuple((role, content) for role, content in call["messages"])
        tools = tuple(Tool(**tool) for tool in call["tools"])
        response = await engine.ask_now(Request(messages, generation, call["seed"], tools=tools))
        return {"response": dataclasses.asdict(response)}

    async def status(self, _: object) -> StatusReply:
        """Return how far the run is; the progress line calls this again and again."""
        usages = [engine.usage for engine in self._models.ready().values()]
        costs = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
        loading = [engine.loading() for engine in self._models.ready().values()]
        return {
            "planned": self.planned,
            "done": self.samples.done,
            "requests": sum(usage.requests for usage in usages),
            "cached": sum(usage.cached for usage in usages),
            "tokens": sum(usage.tokens for usage in usages),
            "cost_usd": sum(costs) if costs else None,
            "estimate": self._estimate,
            "batches": self._models.batch_progress(),
            "loading": next((text for text in loading if text is not None), None),
        }

    async def finish(self, _: object) -> FinishReply:
        """Return what the results file records about models and their use."""
        self.samples.flush()
        engines = self._models.ready()
        batches = self._models.conclude()
        budget: BudgetReport | None = None
        if self._config["budget"]:
            budget = {**self._ledger.summary(), "estimate": self._estimate}
        return {
            "plan": self._plan,
            "models": {name: engine.described() for name, engine in engines.items()},
            "usage": {name: engine.usage.entry() for name, engine in engines.items()},
            "errors": self._models.errors,
            "budget": budget,
            "batches": batches,
            "data": dict(self._source.hashes),
            "stop": {model: asking.report() for model, asking in self._asking.items()} or None,
        }

    # --- work that no call waits for ----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Load the models under test while tests are collected."""
        for model in self._config["models"]:
            self._run_in_background(self._load(model))

    async def _load(self, model: str) -> None:
        with contextlib.suppress(TrustLLMError):  # the model's first sample shows the error
            await self._models.target(model)

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        # asyncio itself keeps weak references only: a task that nobody holds may vanish before it is done.
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _start(self, plan: Plan) -> None:
        """Start the samples of a plan: all at once, or in an order that lets gates be decided early."""
        if self._config["budget"]:
            self._estimate = await self._estimated(plan["keys"])
        if plan["stop"] is None:
            await self._start_samples(plan["keys"])
            return
        try:
            self._prepare_asking(plan, plan["stop"])
        except TrustLLMError:  # a sample that cannot be made: its own record shows the error
            self._asking.clear()
        finally:
            self._asking_known.set()
        for model, asking in self._asking.items():
            self._run_in_background(self._ask(model, asking))
        managed = self._asking.values()
        await self._start_samples([key for key in plan["keys"] if not any(asking.has(key) for asking in managed)])

    def _prepare_asking(self, plan: Plan, stop: StopPlan) -> None:
        """Make what asks each model's samples.

        Raises:
            TrustLLMError: A sample cannot be made, so that nobody knows its group and its cluster.
        """
        samples: dict[str, dict[str, list[Sample]]] = {}
        for key in plan["keys"][: plan["items"]]:
            model, task_id, sample_id = split_key(key)
            samples.setdefault(model, {}).setdefault(task_id, []).append(self._source.sample(task_id, sample_id))
        for model, by_task in samples.items():
            plans: dict[str, SourcePlan] = {}
            for task_id, of_task in by_task.items():
                tasks = [self._source.task(task_id), *self._source.readers(task_id)]
                units = shuffled_units(of_task, self._config["seed"])
                plans[task_id] = SourcePlan(units, {task.id: task for task in tasks})
            self._asking[model] = Asking(
                model,
                self.samples,
                plans,
                read_gates(stop["gates"].get(model, {})),
                self._config["epochs"],
                ungated=stop["ungated"],
                required=frozenset(stop["required"]),
                before=_earlier(self._config["before"].get(model, {})),
            )

    async def _ask(self, model: str, asking: Asking) -> None:
        ahead = Ahead(_LEAST_IN_FLIGHT)
        with contextlib.suppress(TrustLLMError):  # the model's first sample shows the error
            ahead = await self._samples_ahead(model, asking)
        await asking.run(ahead)

    async def _samples_ahead(self, model: str, asking: Asking) -> Ahead:
        """Return how many samples are under way while gates are being decided: enough to keep all models busy."""
        target = await self._models.target(model)
        ahead = _LEAST_IN_FLIGHT + _in_flight(target.model)
        judged = 0
        in_rounds = False
        for role in self._source.roles(asking.tasks):
            engine = await self._models.role(role)
            if engine is None or getattr(engine.model, "free", False):
                continue
            judged = max(judged, _JUDGED_TOGETHER)
            if engine.turn.shares_with(target.turn):
                judged, in_rounds = _PER_TURN, True
        return Ahead(ahead + judged, in_rounds)

    async def _start_samples(self, keys: Sequence[str]) -> None:
        for begin in range(0, len(keys), _SAMPLES_AT_ONCE):
            for key in keys[begin : begin + _SAMPLES_AT_ONCE]:
                self.samples.start(key)
            await asyncio.sleep(0)

    async def _estimated(self, keys: Sequence[str]) -> EstimatedCost:
        """Return what the models under test will be sent; what a judge is asked depends on their answers."""
        estimate: EstimatedCost = {"requests": 0, "input_tokens": 0, "output_tokens_at_most": 0, "usd_at_most": 0.0}
        for number, key in enumerate(keys):
            model, task_id, sample_id = split_key(key)
            try:
                runner = await self._runner(model)
                sample = self._source.sample(task_id, sample_id)
                foreseen = await runner.foresee(self._source.task(task_id), sample)
            except TrustLLMError:  # the sample's own record shows the error
                continue
            price = self._models.price(model)
            for tokens in foreseen:
                _add_request(estimate, tokens, price)
            if number % _SAMPLES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return estimate

    async def _runner(self, model: str) -> Runner:
        if model not in self._runners:
            self._runners[model] = asyncio.ensure_future(self._new_runner(model))
        return await self._runners[model]

    async def _new_runner(self, model: str) -> Runner:
        target = await self._models.target(model)
        planned = [] if self._plan is None else self._plan["keys"]
        roles: dict[str, Asked] = {}
        for role in self._source.roles({split_key(key).task for key in planned}):
            engine = await self._models.role(role)
            if engine is None:
                continue
            roles[role] = engine
            if role == "guard":
                spec = ModelSpec(**self._config["roles"][role])
                roles[role] = GuardEngine(engine, template_of(spec))
        return Runner(
            target,
            roles,
            self._config["seed"],
            epochs=self._config["epochs"],
            votes=self._config["judge_votes"],
            blocked_counts=self._config["blocked"] == "refusal",
            capture_prints=self._capture_prints,
        )

    async def close(self) -> None:
        """Close the models that were loaded."""
        await self._models.close()


def _earlier(fields: Mapping[str, Sequence[Any]]) -> dict[str, list[EarlierSample]]:
    """Return what a baseline has of the samples of gates."""
    return {gate: [EarlierSample(*sample) for sample in samples] for gate, samples in fields.items()}


def _in_flight(model: Any) -> int:
    """Return how many requests keep a model busy."""
    most: object = getattr(model, "max_concurrency", None) or model.info.get("about", {}).get("batch_size")
    return most if isinstance(most, int) and most > 0 else _BATCH


Operation = Callable[[Host, Any], Awaitable[Any]]
OPERATIONS: dict[str, Operation] = {
    "app": Host.take_app,
    "plan": Host.take_plan,
    "ready": Host.ready,
    "need": Host.need,
    "again": Host.again,
    "detail": Host.detail,
    "ask": Host.ask,
    "status": Host.status,
    "finish": Host.finish,
}
"""What a client may call, by the ``op`` of its message; ``provide`` is no call: it takes the connection over."""


def _add_request(estimate: EstimatedCost, tokens: tuple[int, int], price: Mapping[str, float] | None) -> None:
    """Add one request to an estimate; the answer to one that will produce no token is in the store."""
    sent, received_at_most = tokens
    if received_at_most > 0:
        estimate["requests"] += 1
    estimate["input_tokens"] += sent
    estimate["output_tokens_at_most"] += received_at_most
    if price is None:
        estimate["usd_at_most"] = None
    elif estimate["usd_at_most"] is not None:
        estimate["usd_at_most"] += cost(price, sent, received_at_most)
