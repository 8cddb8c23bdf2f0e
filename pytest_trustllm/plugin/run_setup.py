"""The state of a run, made from its settings; every mistake that needs no model is found here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_trustllm import extensions
from pytest_trustllm.config.containment import files_anywhere
from pytest_trustllm.errors import ModelError, SuiteError, suggest
from pytest_trustllm.formats import DataEntry
from pytest_trustllm.gates import selection
from pytest_trustllm.gates.selection import Tags
from pytest_trustllm.gates.thresholds import Thresholds
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import ModelKind, ModelSpec
from pytest_trustllm.models.guard import templates as guards
from pytest_trustllm.models.hub_card import hub_card
from pytest_trustllm.plugin.run_files import check_apart
from pytest_trustllm.plugin.run_state import NO_BATCHES_HINT, RunState
from pytest_trustllm.plugin.settings import Settings
from pytest_trustllm.registry import Registry
from pytest_trustllm.results import baseline as earlier
from pytest_trustllm.results.baseline import Baseline
from pytest_trustllm.results.judge_check_file import RunFacts, read_judge_checks
from pytest_trustllm.suites import samples
from pytest_trustllm.suites.audited import AuditedRun
from pytest_trustllm.suites.model_card import ModelCard
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.task import Suite

_ROLE_KINDS: dict[str, ModelKind] = {
    "judge": "chat",
    "refusal": "classifier",
    "embedder": "embedder",
    "toxicity": "rater",
    "guard": "chat",
    "simulator": "chat",
}


def make_state(config: pytest.Config, settings: Settings, registry: Registry, *, fixture: bool) -> RunState:
    """Read suites, data, thresholds and model names, and look for every mistake that needs no model.

    Args:
        config: The run's configuration.
        settings: Flags and ini keys.
        registry: Names that YAML may use.
        fixture: A conftest.py overrides ``trust_model``.

    Raises:
        TrustLLMError: The first mistake found.
    """
    with files_anywhere(settings.allow_outside):
        suites = find_suites(
            settings.suite_directories,
            registry,
            root=config.rootpath,
            builtin=settings.builtin_suites,
            packages=settings.suite_packages,
        )
        _check_narrowing(settings, suites)
        files, tags = _read_gates(config, settings, suites)
    data = samples.open_data(settings.data, config.rootpath, _card(settings))
    if settings.audit is not None:
        data.audited = _audited(config, settings.audit, settings, suites, data.card)
    if fixture and len(settings.models) > 1:
        raise SuiteError("--trust-model: a conftest.py overrides trust_model, so give one name only")
    # An xdist worker needs no model: the controller's host has them. What the controller checked needs no second look.
    is_worker = hasattr(config, "workerinput")
    if is_worker:
        models = _Models(dict.fromkeys(settings.models), {})
    else:
        models = _resolved_models(settings, registry, fixture=fixture)
    state = RunState(
        config=config,
        settings=settings,
        registry=registry,
        suites=suites,
        data=data,
        thresholds=files,
        tags=tags,
        fixture=fixture,
        models=models.tested,
        roles=models.roles,
        base=models.base,
    )
    if not is_worker:
        _check_batches(state)
        _check_gates(state)
        _check_licences(state)
        state.read_rows()
        _read_judge_checks(state)
        _read_baselines(state)
        check_apart(state)
    return state


def _check_licences(state: RunState) -> None:
    """Refuse licences that leave nothing to ask."""
    requested = state.requested()
    if requested and requested <= state.unlicensed.keys():
        found = ", ".join(sorted({state.unlicensed[task] for task in requested}))
        patterns = ", ".join(state.settings.licences)
        raise SuiteError(f"--trust-licences: no selected task has one of {patterns}; their licences: {found}")


def _card(settings: Settings) -> Path | None:
    """Return the file of the model's card.

    Raises:
        ModelError: The model has no repository, or no card is there.
    """
    if settings.card == "hub":
        return hub_card(settings.models[0], settings.models_file)
    return settings.card


def _audited(
    config: pytest.Config, path: Path, settings: Settings, suites: Sequence[Suite], card: ModelCard | None
) -> AuditedRun:
    """Return what is known of the saved run; an xdist worker is told by the controller, which found it out."""
    if hasattr(config, "workerinput"):
        told: AuditedRun = json.loads(config.workerinput["trust"]["audited"])
        return told
    from pytest_trustllm.plugin.audit import audited_run

    return audited_run(
        path,
        suites,
        root=config.rootpath,
        models=settings.models,
        key=settings.audit_key,
        repeat=settings.replay,
        seed=settings.seed,
        card=card,
    )


def _check_narrowing(settings: Settings, suites: Sequence[Suite]) -> None:
    names = set()
    for suite in suites:
        names.add(suite.name)
        names.update(f"{suite.name}/{task.name}" for task in suite.tasks if task.reads is None)
    for name in settings.suites:
        if name not in names:
            hint = extensions.how_to_install(name) or suggest(name, _tasks_beside(name, names) or names)
            raise SuiteError(f"--trust-suite: no suite or task {name!r}{hint}")


def _tasks_beside(name: str, names: Iterable[str]) -> set[str]:
    """Return the tasks of the suite that a task's name begins with; none if there is no such suite."""
    suite, slash, _ = name.partition("/")
    return {known for known in names if slash and known.startswith(f"{suite}/")}


def _read_gates(
    config: pytest.Config, settings: Settings, suites: Sequence[Suite]
) -> tuple[Sequence[Thresholds], Tags]:
    files = selection.find_thresholds(
        settings.thresholds, suites, root=config.rootpath, sample=settings.data == "sample"
    )
    all_tags: set[str] = set()
    for file in files:
        all_tags.update(file.tags())
    return files, selection.read_tags(settings.gate_tags, all_tags, "--trust-gate-tags")


@dataclass(frozen=True, slots=True)
class _Models:
    """The models of a run.

    Attributes:
        tested: Label -> spec of a model under test; None for a fixture.
        roles: Role -> spec.
        base: The bare model behind the app.
    """

    tested: dict[str, ModelSpec | None]
    roles: dict[str, ModelSpec]
    base: ModelSpec | None = None


def _resolved_models(settings: Settings, registry: Registry, *, fixture: bool) -> _Models:
    """Return the specs of all models; their providers have checked them, and none is loaded.

    Raises:
        ModelError: A name is unknown, or a spec is unusable.
    """

    def resolve(name: str, kind: ModelKind) -> ModelSpec:
        return catalogue.resolve(name, user_file=settings.models_file, kind=kind, registry=registry)

    roles = {role: resolve(name, _ROLE_KINDS[role]) for role, name in settings.roles.items()}
    if "guard" in roles:
        roles["guard"] = guards.prepared(roles["guard"])
    tested: dict[str, ModelSpec | None] = dict.fromkeys(settings.models)
    if not fixture:  # for a fixture, the names are labels
        tested = {name: resolve(name, "chat") for name in settings.models}
    base = None if settings.base_model is None else resolve(settings.base_model, "chat")
    if base is not None and base in tested.values():
        raise ModelError(f"--trust-base-model: {settings.base_model!r} is the model under test itself")
    for spec in (*roles.values(), *tested.values(), base):
        if spec is None:
            continue
        provider = catalogue.provider_of(spec, registry)
        on_nodes = settings.cluster is not None and getattr(provider, "loads_on_cluster", False)
        if not on_nodes:
            provider.check(spec)
    return _Models(tested, roles, base)


def _check_batches(state: RunState) -> None:
    """See that requests to the models under test could be submitted in batches, if they are to be.

    Raises:
        ModelError: They could not, whatever their servers have.
    """
    if state.settings.batch is None:
        return
    for label, spec in state.models.items():
        if spec is None:
            raise ModelError(f"--trust-batch: the fixture trust_model has no batch API; {NO_BATCHES_HINT}")
        # Not a part of the protocol of providers: only few can have it
        check: Callable[[ModelSpec], None] | None = getattr(
            catalogue.provider_of(spec, state.registry), "check_batches", None
        )
        if check is None:
            raise ModelError(f"--trust-batch: {label!r} has no batch API; {NO_BATCHES_HINT}")
        try:
            check(spec)
        except ModelError as e:
            raise ModelError(f"--trust-batch: {e}; {NO_BATCHES_HINT}") from None


def _check_gates(state: RunState) -> None:
    """Look for gates that would silently apply to nothing: a misspelt model name, or tags that choose none."""
    settings = state.settings

    def unknown(name: str) -> str | None:
        if state.fixture:  # the names are labels then
            return None
        return catalogue.why_unknown(name, user_file=settings.models_file, registry=state.registry)

    selection.check_models(state.thresholds, list(state.models), unknown)
    selection.check_tags(state.thresholds, list(state.models), state.tags, settings.gate_tags, "--trust-gate-tags")


def _role_names(state: RunState) -> dict[str, str]:
    return {role: spec.name for role, spec in state.roles.items()}


def _read_judge_checks(state: RunState) -> None:
    data: DataEntry = {"source": state.data.name, "files": state.data.hashes}
    facts = RunFacts.before(_role_names(state), state.tasks(), data, state.config.rootpath, state.settings.judge_votes)
    state.checks = read_judge_checks(state.settings.judge_checks, facts, "--trust-judge-check")


def _read_baselines(state: RunState) -> None:
    path = state.settings.baseline
    if path is not None:
        state.baselines = {model: _baseline(state, path, model) for model in state.models}


def _baseline(state: RunState, path: Path, model: str) -> Baseline:
    """Read the earlier run of one model, and see that it can be compared with this one."""
    baseline = earlier.read_baseline(state.file_of(path, model), root=state.config.rootpath)
    run_models = earlier.RunModels(model, _role_names(state))
    any_model = None if state.settings.baseline_any_model else "--trust-baseline-any-model"
    earlier.check_baseline(baseline, run_models, state.chosen_gates(model), state.tasks(), any_model=any_model)
    return baseline
