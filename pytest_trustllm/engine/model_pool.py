"""The models of a run: those under test and those of its roles, each loaded once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pytest_trustllm.engine.activity import Activity
from pytest_trustllm.engine.attached import AttachedModel
from pytest_trustllm.engine.batch_record import BatchRecord
from pytest_trustllm.engine.batches import PRICE_SHARE, BatchableModel, BatchQueue
from pytest_trustllm.engine.budget import Ledger
from pytest_trustllm.engine.engine import Engine, loaded
from pytest_trustllm.engine.messages import FIXTURE, BatchReport, HostConfig, ProvideCall, SpecFields
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.errors import ModelError, TrustLLMError, one_line
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.api.batches import BatchApi
from pytest_trustllm.models.api.retrying import RequestFailure
from pytest_trustllm.models.base import LoadSettings, Model, ModelSpec
from pytest_trustllm.models.generation_settings import GenerationOverrides
from pytest_trustllm.registry import Registry
from pytest_trustllm.types import NOTHING, Request, Response

_log = logging.getLogger(__name__)


class AbsentModel:
    """Takes the place of a role's model that could not be loaded, and gives the reason."""

    stored = False
    max_concurrency = 1

    def __init__(self, name: str, reason: str) -> None:
        self.info: Mapping[str, Any] = {"provider": "none", "id": name, "error": reason}

    async def answer(self, request: Request) -> Response:
        """Return the reason as an error."""
        return Response(error=self.info["error"], fatal=True)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ModelPool:
    """Loads models when they are first needed.

    Args:
        config: The run's.
        registry: Knows the providers.
        ledger: Counts what all models spend together.

    Attributes:
        errors: Role -> why its model could not be loaded.
    """

    def __init__(self, config: HostConfig, registry: Registry, ledger: Ledger) -> None:
        self.errors: dict[str, str] = {}
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self._settings = LoadSettings(**config["load"])
        self._engines: dict[str, asyncio.Future[Engine]] = {}
        self._attached: AttachedModel | None = None
        self._activity = Activity()
        self._on_gpus: list[Engine] = []

    def price(self, model: str) -> Mapping[str, float] | None:
        """Return US dollars per million tokens that a run will pay for a model under test; None: unknown."""
        fields = self._config["models"].get(model)
        if fields is None:
            return None
        price: Mapping[str, float] | None = fields["options"].get("price")
        if price is None or self._config["batch"] is None:
            return price
        return {kind: PRICE_SHARE * usd for kind, usd in price.items()}

    async def target(self, model: str) -> Engine:
        """Return the engine of a model under test.

        Raises:
            TrustLLMError: The model cannot be loaded.
        """
        # A bare model behind the fixture's app has an entry of its own
        if self._config["fixture"] and self._config["models"].get(model) is None:
            return await self._future(FIXTURE)
        return await self._load(model, self._config["models"][model])

    async def role(self, role: str) -> Engine | None:
        """Return the engine of a role; None if the role has no model."""
        fields = self._config["roles"].get(role)
        if fields is None:
            return None
        try:
            return await self._load(role, fields)
        except ModelError as e:
            # The target can still answer; only what this role would decide stays open, with this reason.
            self.errors[role] = str(e)
            return self._engine(AbsentModel(role, str(e)))

    def attach(self, call: ProvideCall) -> AttachedModel:
        """Return the model that test processes provide; the first process brings it into being."""
        if self._attached is None:
            self._attached = AttachedModel(call["name"], call["max_concurrency"], call["revision"])
            future = self._future(FIXTURE)
            try:
                future.set_result(self._engine(self._attached))
            except TrustLLMError as e:  # the store cannot be used
                future.set_exception(e)
        return self._attached

    def ready(self) -> dict[str, Engine]:
        """Return the engines that are loaded, by label or role."""
        engines = {}
        for name, future in self._engines.items():
            if future.done() and not future.exception():
                engines[name] = future.result()
        return engines

    def batch_progress(self) -> list[int]:
        """Return how many batches the run waits for, how many of their requests are done, and how many they have."""
        queues = [engine.batches for engine in self.ready().values() if engine.batches is not None]
        return [sum(column) for column in zip((0, 0, 0), *(queue.progress() for queue in queues), strict=True)]

    def conclude(self) -> dict[str, BatchReport]:
        """Return what became of requests in batches, at the end of the run."""
        engines = self.ready()
        if not any(engine.batches is not None and engine.batches.has_pending for engine in engines.values()):
            for engine in engines.values():
                engine.conclude()
        return {name: engine.batches.report() for name, engine in engines.items() if engine.batches is not None}

    async def close(self) -> None:
        """Close all engines that were loaded."""
        for engine in self.ready().values():
            await engine.close()

    def _future(self, name: str) -> asyncio.Future[Engine]:
        if name not in self._engines:
            self._engines[name] = asyncio.get_running_loop().create_future()
        return self._engines[name]

    async def _load(self, name: str, fields: SpecFields) -> Engine:
        if name in self._engines:
            # A waiter that is cancelled must not cancel the loading for the others.
            return await asyncio.shield(self._engines[name])
        future = self._future(name)
        spec = ModelSpec(**fields)
        try:
            model = await loaded(lambda: self._loaded_model(spec))
            engine = self._engine(model, spec.options)
            await self._open_batches(engine, spec.options)
            future.set_result(engine)
        except TrustLLMError as e:
            future.set_exception(e)
        except Exception as e:  # noqa: BLE001 - a user's provider may return anything
            future.set_exception(_load_error(spec, e))
        return await future

    async def _open_batches(self, engine: Engine, options: Mapping[str, Any]) -> None:
        """Give an engine its batches, if it has some or is to have some, and fetch what earlier ones have answered.

        Raises:
            ModelError: The server does not tell, and the run is to use its batches.
        """
        mode = self._config["batch"]
        batch_api: Callable[[], BatchApi | None] | None = getattr(engine.model, "batch_api", None)
        server = None if batch_api is None else batch_api()
        if server is None or engine.shelf is None:
            return
        path = BatchRecord.beside(engine.shelf.path)
        if not path.exists() and (mode is None or not await _has_batches(server)):
            return  # the models under test were checked before the run; a role is asked directly then
        read_only = self._config["offline"]
        engine.batches = BatchQueue(
            cast(BatchableModel, engine.model),
            server,
            BatchRecord(path, engine.tuning.described(engine.model.info), read_only=read_only),
            mode=mode,
            ledger=self._ledger,
            price=options.get("price"),
            activity=self._activity,
            read_only=read_only,
        )
        try:
            await engine.batches.collect()
        except RequestFailure as e:
            if mode is not None:
                hint = f"without {path}, which records them, their requests are submitted again"
                raise ModelError(f"--trust-batch: open batches cannot be collected: {e.reason}; {hint}") from None
            _log.warning("open batches cannot be collected: %s", e.reason)

    def _loaded_model(self, spec: ModelSpec) -> Model:
        """Load a model, in a thread."""
        try:
            return catalogue.provider_of(spec, self._registry).load(spec, self._settings)
        except TrustLLMError:
            raise
        except BaseException as e:
            raise _load_error(spec, e) from e

    def _engine(self, model: Model, options: Mapping[str, Any] = NOTHING) -> Engine:
        offline = self._config["offline"]
        tuning = GenerationOverrides.of(options, getattr(model, "reasoning", None))
        shelf = None
        if model.stored:
            shelf = Shelf(Path(self._config["store"]), tuning.described(model.info), read_only=offline)
        # A model that costs nothing, such as a bundled classifier, is not part of the budget.
        ledger = None if getattr(model, "free", False) else self._ledger
        engine = Engine(
            model,
            shelf,
            fresh=self._config["fresh"],
            offline=offline,
            ledger=ledger,
            price=options.get("price"),
            tuning=tuning,
            activity=self._activity,
            licence=options.get("licence"),
        )
        self._join_circle(engine)
        return engine

    def _join_circle(self, engine: Engine) -> None:
        """Let a model take turns with the others that would hold the same GPUs."""
        needed: frozenset[str] = getattr(engine.model, "gpus", frozenset())
        for other in self._on_gpus:
            if needed & getattr(other.model, "gpus", frozenset()):
                engine.turn.share_with(other.turn)
                break
        if needed:
            self._on_gpus.append(engine)


async def _has_batches(server: BatchApi) -> bool:
    try:
        await server.check()
    except ModelError:
        return False
    return True


def _load_error(spec: ModelSpec, error: BaseException) -> ModelError:
    """Return whatever a model library raised as one line that names the model."""
    return ModelError(f"model {spec.name!r} cannot be loaded: {type(error).__name__}: {one_line(error)}")
