"""Judge saved records by gates, as the run itself would have; ``gate`` and ``merge`` share this."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_trustllm.cli.output import say, warn
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import (
    JudgeCheckEntry,
    Record,
    Results,
    RunEntry,
    SampleLine,
)

if TYPE_CHECKING:
    from pytest_trustllm.gates.thresholds import Thresholds
    from pytest_trustllm.gates.verdict import Gate, GateResult
    from pytest_trustllm.results.baseline import Baseline
    from pytest_trustllm.results.measurement import Judging, MeasuredRun
    from pytest_trustllm.suites.task import Suite, Task


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that determine how a saved run is judged."""
    parser.add_argument(
        "--thresholds",
        metavar="PATH",
        type=Path,
        help="threshold file or directory (default: thresholds/ if it exists, else the shipped ones)",
    )
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="results of an earlier run")
    parser.add_argument("--any-model", action="store_true", help="the baseline may be a run of another model")
    parser.add_argument(
        "--judge-check",
        metavar="CHECK.json",
        type=Path,
        action="append",
        help="what judge-check wrote about a judge of the run; may be repeated (default: those of the run)",
    )
    parser.add_argument("--gate-tags", metavar="TAG,...", default="", help="as --trust-gate-tags")
    parser.add_argument("--show-content", action="store_true", help="as --trust-show-content")
    add_suites(parser)


def rejudge(
    args: argparse.Namespace, path: Path, results: Results, records: Sequence[Record], texts: Iterable[SampleLine]
) -> tuple[Results, int]:
    """Judge saved records, print the summary of the run, and return the results document and the exit status.

    Args:
        args: What :func:`add_judging` declares.
        path: Results file, for messages.
        results: The saved document; metrics, scores and gates are computed again.
        records: Its records.
        texts: The lines of its samples file; they are read only if people labelled responses.
    """
    from pytest_trustllm.gates.selection import digests
    from pytest_trustllm.results.document import tasks_of

    again = judge_again(args, path, results, records, texts)
    shipped = {task.id for task in tasks_of(suite for suite in again.suites if suite.builtin)}
    judged_run: RunEntry = {
        **results["run"],
        "thresholds": digests(again.files),
        "judge_checks": list(again.judge_checks),
    }
    rejudged = again.measured.document(
        judged_run,
        again.verdicts,
        results["usage"],
        results["samples"],
        deselected=again.deselected,
        shipped=shipped,
    )
    if "base" in results:
        rejudged["base"] = results["base"]
    problems = _print_summary(args, rejudged, again.measured.reasons)
    broken = _broken_samples(again.measured)
    if broken:
        problems.append(f"{broken}: the run itself failed")
    for problem in problems:
        say(f"ERROR: {problem}")
    failed = bool(problems) or any(verdict.failing for verdict in again.verdicts)
    return rejudged, int(failed)


@dataclass(frozen=True, slots=True)
class JudgedAgain:
    """A saved run, measured and judged again.

    Attributes:
        measured: Its numbers.
        verdicts: Of its gates.
        deselected: Gates that the tags leave out.
        suites: That define its metrics.
        files: The threshold files.
        judge_checks: That correct its rates.
    """

    measured: MeasuredRun
    verdicts: Sequence[GateResult]
    deselected: Sequence[Gate]
    suites: Sequence[Suite]
    files: Sequence[Thresholds]
    judge_checks: Sequence[JudgeCheckEntry]


def judge_again(
    args: argparse.Namespace, path: Path, results: Results, records: Sequence[Record], texts: Iterable[SampleLine]
) -> JudgedAgain:
    """Measure and judge saved records.

    Args:
        args: What :func:`add_judging` declares.
        path: Results file, for messages.
        results: The saved document.
        records: Its records.
        texts: The lines of its samples file; they are read only if people labelled responses.
    """
    from pytest_trustllm.results.compared_runs import base_run
    from pytest_trustllm.results.coverage import selection_from
    from pytest_trustllm.results.document import tasks_of
    from pytest_trustllm.results.gates_again import decisions_of
    from pytest_trustllm.results.measurement import MeasuredRun
    from pytest_trustllm.results.recomputation import early_tasks

    run = results["run"]
    suites = suites_of(args, [(path, results)])
    tasks = tasks_of(suites)
    files = _threshold_files(args, results, suites)
    gates, deselected = _gates(args, results, suites, files)
    baseline = _baseline(args, results, tasks, gates)
    judging = _judging(args, results, tasks, texts)
    measured = MeasuredRun(
        tasks,
        records,
        selection_from(results["coverage"], tasks),
        seed=run["seed"],
        baseline=baseline,
        base=base_run(results, path, tasks, Path.cwd()),
        stopped=run.get("stopped", False),
        definitions=run.get("tasks", {}),
        early=early_tasks(results),
        decisions=decisions_of(results, gates),
        judging=judging,
        limit=run.get("limit"),
        baseline_flag="--baseline",
    )
    failed_before = {gate["id"] for gate in results["gates"] if gate.get("failed_before")}
    verdicts = [measured.judge(gate, failed_before=gate.id in failed_before) for gate in gates]
    return JudgedAgain(measured, verdicts, deselected, suites, files, judging.checks)


def _judging(args: argparse.Namespace, results: Results, tasks: Sequence[Task], texts: Iterable[SampleLine]) -> Judging:
    """Return what is known of the mistakes of a saved run's judges: from the files that the user names, or the run."""
    from pytest_trustllm.results.judge_check_file import RunFacts, named_subject, read_judge_checks
    from pytest_trustllm.results.judge_correction import response_hashes
    from pytest_trustllm.results.measurement import Judging

    run = results["run"]
    facts = RunFacts.after(run, tasks, Path.cwd())
    checks = run.get("judge_checks", [])
    if args.judge_check:
        replaced = ", ".join(named_subject(check) for check in checks)
        checks = read_judge_checks([Path.cwd() / path for path in args.judge_check], facts, "--judge-check")
        if replaced:
            warn(f"--judge-check: replaces what the run has: a check about {replaced}")
    return Judging(checks, facts, response_hashes(checks, texts))


def _print_summary(args: argparse.Namespace, results: Results, reasons: Sequence[tuple[str, str, int]]) -> list[str]:
    """Print the summary; in a GitHub workflow, also annotate the gates that did not pass and write a step summary.

    Returns:
        What went wrong with that, one line each.
    """
    from pytest_trustllm.report import github, masking, terminal

    if not args.show_content:
        results = masking.concealed(results)
        reasons = [(task, masking.masked(reason), count) for task, reason, count in reasons]
    on_github = github.is_here()
    say(f"trust: {one_line(results['run']['model']['name'], 60)}")
    for line in terminal.summary(results, reasons):
        # a line of a model's text must not pass for a command to GitHub
        say(github.harmless(line) if on_github else line)
    if on_github:
        for command in github.commands([results], Path.cwd()):
            say(command)
    try:
        github.write_summary(results, reasons)
    except ResultsError as e:
        return [str(e)]
    return []


def _threshold_files(args: argparse.Namespace, results: Results, suites: Sequence[Suite]) -> list[Thresholds]:
    """Return the threshold files that the run would have had."""
    from pytest_trustllm.gates import selection

    sample = results["run"]["data"]["source"] == "sample"
    where = None
    if args.thresholds is not None:
        where = Path.cwd() / args.thresholds
    return selection.find_thresholds(where, suites, root=Path.cwd(), sample=sample, option="--thresholds")


def _gates(
    args: argparse.Namespace, results: Results, suites: Sequence[Suite], files: Sequence[Thresholds]
) -> tuple[list[Gate], list[Gate]]:
    """Return the gates that the run would have had with these files, and those that the tags leave out."""
    from pytest_trustllm.gates import selection
    from pytest_trustllm.results.coverage import left_out
    from pytest_trustllm.results.document import tasks_of
    from pytest_trustllm.results.gates_again import label_of

    known_tags: set[str] = set()
    for file in files:
        known_tags.update(file.tags())
    tags = selection.read_tags(args.gate_tags, known_tags, "--gate-tags")
    model = label_of(results)
    selection.check_models(files, [model], lambda _: None)  # the run's own models file is not at hand
    selection.check_tags(files, [model], tags, args.gate_tags, "--gate-tags")
    chosen = selection.selected_tasks(suites, results["run"].get("suites", ()))
    chosen -= left_out(results, tasks_of(suites))
    gates = selection.gates_about(files, model, chosen)
    judged: list[Gate] = []
    deselected: list[Gate] = []
    for gate in gates:
        if tags.choose(gate):
            judged.append(gate)
        else:
            deselected.append(gate)
    return judged, deselected


def _baseline(
    args: argparse.Namespace, results: Results, tasks: Sequence[Task], gates: Sequence[Gate]
) -> Baseline | None:
    from pytest_trustllm.results.baseline import RunModels, check_baseline, read_baseline
    from pytest_trustllm.results.gates_again import label_of

    if args.baseline is None:
        return None
    baseline = read_baseline(Path.cwd() / args.baseline, "--baseline", Path.cwd())
    roles = {role: model["name"] for role, model in results["run"]["roles"].items()}
    any_model = None if args.any_model else "--any-model"
    check_baseline(baseline, RunModels(label_of(results), roles), gates, tasks, any_model=any_model)
    return baseline


def _broken_samples(measured: MeasuredRun) -> str:
    """Return in words which samples failed as tests; empty if none did."""
    errored = 0
    lost = 0
    for task in measured.tasks:
        entry = measured.coverage.get(task.id)
        if task.reads is None and entry is not None:  # a task that reads another's responses has no tests
            errored += entry["errored"]
            lost += entry["lost"]
    fates: list[str] = []
    if errored:
        fates.append(f"{errored} samples raised an error")
    if lost:
        fates.append(f"{lost} samples never ran")
    return ", ".join(fates)
