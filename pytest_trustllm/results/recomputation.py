"""Whether a results file says what its samples file does: the metrics are computed again and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.formats import MetricEntry, Results, StoppedTaskEntry
from pytest_trustllm.results.compared_runs import compared_runs
from pytest_trustllm.results.coverage import selection_from
from pytest_trustllm.results.document import tasks_of
from pytest_trustllm.results.files import records_of, samples_of
from pytest_trustllm.results.gates_again import GatesAgain, decisions_of, gates_of_run, judged_again
from pytest_trustllm.results.judge_check_file import RunFacts
from pytest_trustllm.results.judge_correction import response_hashes
from pytest_trustllm.results.measurement import Judging, MeasuredRun
from pytest_trustllm.results.rescoring import Rescoring, rescored
from pytest_trustllm.suites.task import Suite


@dataclass(frozen=True, slots=True)
class Recomputation:
    """What became of the numbers of a saved run when they were computed again.

    Attributes:
        metrics: Task -> ids of its metrics, and of those among them that differ.
        scores: Dimensions whose trust score differs.
        samples: How many there are.
        gates: What became of its verdicts.
        scoring: What became of the scores of its samples.
    """

    metrics: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    scores: Sequence[str]
    samples: int
    gates: GatesAgain
    scoring: Rescoring

    @property
    def differing(self) -> list[str]:
        """All metrics and trust scores that differ."""
        differing = [id_ for _, ids in self.metrics.values() for id_ in ids]
        return differing + [f"{dimension}/score" for dimension in self.scores]

    @property
    def count(self) -> int:
        """How many metrics were compared."""
        return sum(len(ids) for ids, _ in self.metrics.values())


def recomputed(
    results: Results, path: Path, suites: Sequence[Suite], root: Path, *, thresholds: Path | None = None
) -> Recomputation:
    """Compute all metrics of a saved run from its samples file, judge its gates, and compare with the results file.

    Args:
        results: The results file.
        path: Where it is.
        suites: All suites, as :func:`check_tasks` wants them.
        root: The project, for the threshold files.
        thresholds: Threshold file or directory of the run; None: where the run found them.

    Raises:
        ResultsError: The samples file is missing or broken.
    """
    run = results["run"]
    tasks = tasks_of(suites)
    records = records_of(results, path)
    gates = gates_of_run(results, suites, root, thresholds)
    checks = run.get("judge_checks", [])
    responses = response_hashes(checks, samples_of(results, path))
    others = compared_runs(results, path, tasks, root)
    measured = MeasuredRun(
        tasks,
        records,
        selection_from(results["coverage"], tasks),
        seed=run["seed"],
        baseline=others.baseline,
        base=others.base,
        stopped=run.get("stopped", False),
        definitions=run.get("tasks", {}),
        early=early_tasks(results),
        decisions=decisions_of(results, gates or ()),
        judging=Judging(checks, RunFacts.after(run, tasks, root), responses),
        limit=run.get("limit"),
    )
    again = measured.document(run, [], results["usage"], results["samples"])
    differing = set(differing_metrics(results["metrics"], again["metrics"]))
    metrics: dict[str, tuple[list[str], list[str]]] = {}
    for id_ in {**results["metrics"], **again["metrics"]}:
        compared, different = metrics.setdefault(id_.partition(".")[0], ([], []))
        compared.append(id_)
        if id_ in differing:
            different.append(id_)
    scoring = rescored(results, samples_of(results, path), tasks, root)
    judged = judged_again(results, measured, gates, others.missing)
    return Recomputation(metrics, _differing_scores(results, again), len(records), judged, scoring)


def _differing_scores(saved: Results, again: Results) -> list[str]:
    differing = []
    for dimension in {**saved["scores"], **again["scores"]}:
        before, after = saved["scores"].get(dimension), again["scores"].get(dimension)
        if before is None or after is None or before["value"] != after["value"]:
            differing.append(dimension)
    return differing


def differing_metrics(saved: Mapping[str, MetricEntry], again: Mapping[str, MetricEntry]) -> list[str]:
    """Return the metrics that a computation from the samples gives other numbers for, to the last digit.

    Intervals of metrics that were not asked whole belong to the run's decisions and are not compared.
    """
    differing = []
    for id_ in {**saved, **again}:
        before, after = saved.get(id_), again.get(id_)
        if before is None or after is None or not _is_same(before, after):
            differing.append(id_)
    return differing


def _is_same(before: MetricEntry, after: MetricEntry) -> bool:
    names = ["value", "parity", "expected", "scored", "unscored", "judge_corrected"]
    if before.get("stopped") is None:
        names.append("ci")
    return all(before.get(name) == after.get(name) for name in names)


def early_tasks(results: Results) -> Mapping[str, StoppedTaskEntry]:
    """Return task -> what a saved run did not ask of it, because no gate needed it."""
    stop = results["run"].get("stop")
    return {} if stop is None else stop["tasks"]


def check_tasks(path: Path, results: Results, suites: Sequence[Suite], remedy: str) -> None:
    """Check that suites define the tasks of a saved run, in the same versions.

    Args:
        path: The results file, for messages.
        results: The saved run.
        suites: Those that are there now.
        remedy: What to do about a task that no suite defines.

    Raises:
        SuiteError: A task is missing, or has another version.
    """
    versions: dict[str, tuple[int, str]] = {}
    for suite in suites:
        for task in suite.tasks:
            versions[task.id] = (task.version, suite.shown)
    for task_id, version in results["run"]["task_versions"].items():
        if task_id not in versions:
            raise SuiteError(f"{path}: no suite defines {one_line(task_id, 60)}, a task of the run; {remedy}")
        version_now, file = versions[task_id]
        if version_now != version:
            raise SuiteError(
                f"{path}: the run has version {one_line(version, 20)} of {task_id}, {file} version {version_now}: "
                "take the suites of the run, or run again"
            )
