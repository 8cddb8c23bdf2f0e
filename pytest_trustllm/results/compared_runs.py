"""The runs that a saved run was compared with, as far as their files are still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.config.paths import is_file
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.results.baseline import Baseline, read_baseline
from pytest_trustllm.results.coverage import selection_from
from pytest_trustllm.results.measurement import Against, MeasuredRun
from pytest_trustllm.suites.task import Task


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """What a saved run was compared with.

    Attributes:
        baseline: The earlier run; None if it is not there.
        base: The run of the bare model behind the app; None if it is not there.
        missing: Which of them is not there, and why.
    """

    baseline: Baseline | None
    base: MeasuredRun | None
    missing: Mapping[Against, str]


def compared_runs(results: Results, path: Path, tasks: Sequence[Task], root: Path) -> ComparedRuns:
    """Find the runs that a saved run was compared with.

    Args:
        results: The saved run.
        path: Its results file.
        tasks: All tasks.
        root: The project.
    """
    missing: dict[Against, str] = {}
    baseline = _baseline(results, path, root)
    if isinstance(baseline, str):
        missing["baseline"] = baseline
    base = base_run(results, path, tasks, root)
    if base is None:
        missing["base"] = "the results of its base model are not here"
    return ComparedRuns(None if isinstance(baseline, str) else baseline, base, missing)


def _baseline(results: Results, path: Path, root: Path) -> Baseline | str:
    """Return the baseline of a saved run, or why it is not there."""
    entry = results.get("baseline")
    if entry is None:
        return "the results name no baseline"
    shown = one_line(entry["file"], 100)
    places = [root / entry["file"], path.with_name(Path(entry["file"]).name)]
    there = [place for place in dict.fromkeys(places) if is_file(place)]
    for place in there:
        try:
            baseline = read_baseline(place, root=root)
        except ResultsError:
            continue
        if baseline.run["id"] == entry["run"]:
            return baseline
    return f"{shown} is not its baseline any more" if there else f"its baseline, {shown}, is not here"


def base_run(results: Results, path: Path, tasks: Sequence[Task], root: Path) -> MeasuredRun | None:
    """Return the numbers of the bare model behind the app, whose results are beside the run's; None without them."""
    entry = results.get("base")
    file = None if entry is None else entry["file"]
    if file is None or not is_file(path.with_name(Path(file).name)):
        return None
    saved = read_baseline(path.with_name(Path(file).name), "the base model", root)
    selection = selection_from(saved.results["coverage"], tasks)
    return MeasuredRun(tasks, saved.records, selection, seed=saved.run["seed"], definitions=saved.run.get("tasks", {}))
