"""Which files a run reads and writes, and whether it could."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.config.output_paths import check_directory, check_openable, check_replaceable
from pytest_trustllm.config.paths import exists, files_below, is_directory
from pytest_trustllm.errors import GenerationError, SuiteError
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import ModelSpec
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.results.document import NamedFile, keep_apart


def check_apart(state: RunState) -> None:
    """See that the run overwrites nothing that it reads: a failing run must not become its own baseline.

    Raises:
        ResultsError: It would.
    """
    keep_apart([*_own_outputs(state), *_outputs_of_others(state)], _inputs(state))


def check_writable(state: RunState) -> None:
    """See that every file of the run can be written, before anything is asked; nothing is made.

    Raises:
        TrustLLMError: One cannot.
    """
    if _needs_store(state):
        _check_store(state.settings.store)
    for flag, path in _own_outputs(state):
        check_replaceable(path, flag)
    for flag, path in _outputs_of_others(state):
        check_openable(path, flag)


def _needs_store(state: RunState) -> bool:
    """Return whether answers will be written to the store."""
    if state.settings.offline:
        return False
    return any(_provides(state, spec, "keeps_answers", default=False) for spec in _specs(state))


def _check_store(store: Path) -> None:
    """Refuse a directory in which no answer could be kept.

    Raises:
        GenerationError: Nobody may write there, or a name is too long.
    """
    if any(os.access(file, os.W_OK) for file in store.glob("*.jsonl")):
        return  # answers of this model may be appended, whatever may be done in the directory
    try:
        check_directory(store, store, "--trust-store", GenerationError)
    except GenerationError as e:
        hint = " (with --trust-offline it is only read)" if exists(store) else ""
        raise GenerationError(f"{e}{hint}") from None


def samples_beside(results: Path) -> Path:
    """Return the samples file that belongs to a results file."""
    return results.with_name(f"{results.stem}.samples.jsonl")


def base_beside(results: Path) -> Path:
    """Return the results file of the bare model behind the app."""
    return results.with_name(f"{results.stem}.base{results.suffix}")


def _own_outputs(state: RunState) -> list[NamedFile]:
    """Return the flag and path of every file that the run writes at its end."""
    settings = state.settings
    outputs: list[NamedFile] = []
    for model in state.models:
        if settings.results is not None:
            results = state.file_of(settings.results, model)
            written = [results] if state.base is None else [results, base_beside(results)]
            for path in written:
                outputs += [("--trust-results", path), ("--trust-results", samples_beside(path))]
        if settings.report is not None:
            outputs.append(("--trust-report", state.file_of(settings.report, model)))
    if state.several and settings.report is not None:
        outputs.append(("--trust-report", settings.report))
    return outputs


def _outputs_of_others(state: RunState) -> list[NamedFile]:
    """Return the flag and path of the files that pytest and pytest-html write."""
    outputs: list[NamedFile] = []
    for flag, option in (("--junitxml", "xmlpath"), ("--html", "htmlpath")):
        text = state.config.getoption(option, None)
        if text:
            path = Path(os.path.expandvars(text)).expanduser()  # as both of them do
            outputs.append((flag, state.config.invocation_params.dir / path))
    return outputs


def _inputs(state: RunState) -> list[NamedFile]:
    """Return the name and path of every file that the run reads."""
    settings = state.settings
    inputs: list[NamedFile] = [("--trust-judge-check", path) for path in settings.judge_checks]
    inputs += [("the threshold file", file.path) for file in state.thresholds]
    for suite in state.suites:
        if not suite.builtin:
            inputs += [(f"the suite {suite.name}", path) for path in suite.read]
    if state.data.archive is not None:
        inputs += [("--trust-data", path) for path in _files_of(state.data.archive.path)]
    if state.data.card is not None:
        inputs.append(("--trust-card", state.data.card.path))
    if settings.models_file is not None:
        inputs.append(("the models file", settings.models_file))
    return inputs + _recordings(state) + _earlier_runs(state)


def _files_of(path: Path) -> Sequence[Path]:
    """Return a file, or the ``.json`` files of a directory, as TrustLLM's data and results have them."""
    return files_below(path, ".json", str(path), SuiteError) if is_directory(path) else [path]


def _recordings(state: RunState) -> list[NamedFile]:
    """Return the files that models play back."""
    recordings: list[NamedFile] = []
    for spec in _specs(state):
        path: Path | None = _provides(state, spec, "recording", default=None)
        if path is not None:
            recordings += [(f"the model {spec.name!r}", file) for file in _files_of(path)]
    return recordings


def _specs(state: RunState) -> list[ModelSpec]:
    """Return the specs of all models of the run."""
    specs = [*state.models.values(), *state.roles.values(), state.base]
    return [spec for spec in specs if spec is not None]


def _provides(state: RunState, spec: ModelSpec, method: str, *, default: Any) -> Any:
    """Return what a method of a model's provider says of it; a project's own provider need not have the method."""
    found = getattr(catalogue.provider_of(spec, state.registry), method, None)
    return default if found is None else found(spec)


def _earlier_runs(state: RunState) -> list[NamedFile]:
    """Return the files of the runs that this one audits, or is compared with."""
    settings = state.settings
    inputs: list[NamedFile] = []
    if settings.audit is not None:
        inputs.append(("--trust-audit", settings.audit))
    if state.data.audited is not None:
        results = state.config.rootpath / state.data.audited["file"]
        inputs += [("--trust-audit", results), ("--trust-audit", samples_beside(results))]
    if settings.baseline is None:
        return inputs
    for model in state.models:
        path = state.file_of(settings.baseline, model)
        inputs.append(("--trust-baseline", path))
        baseline = state.baselines.get(model)
        if baseline is not None and baseline.results["samples"] is not None:
            inputs.append(("--trust-baseline", path.with_name(baseline.results["samples"])))
    return inputs
