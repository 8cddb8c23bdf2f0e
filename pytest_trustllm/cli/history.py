"""``pytest-trustllm history`` and ``bisect``: runs over time, and the run in which a metric moved."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say, table, warn, wrapped
from pytest_trustllm.errors import ResultsError, one_line, suggest
from pytest_trustllm.formats import HistoryEntry, Results

if TYPE_CHECKING:
    from pytest_trustllm.results.history_changes import Change

_SAMPLES = 20
_COMMIT = 9


def add(commands: Any) -> None:
    """Declare the commands."""
    history = commands.add_parser("history", help="print runs over time, or draw them as a page", allow_abbrev=False)
    _add_arguments(history)
    history.add_argument("-o", "--output", metavar="OUT.html", type=Path, help="write a page instead")
    history.set_defaults(run=run_history)

    bisect = commands.add_parser(
        "bisect", help="name the run in which a metric moved, and the samples that moved it", allow_abbrev=False
    )
    _add_arguments(bisect)
    bisect.add_argument("--all", action="store_true", help=f"every sample that moved, not only {_SAMPLES}")
    bisect.set_defaults(run=run_bisect)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "history",
        metavar="HISTORY",
        type=Path,
        nargs="+",
        help="what --trust-history wrote to: a directory or an SQLite database; or directories of results files",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help="runs of this model (default: that of the newest run); repeatable",
    )
    parser.add_argument(
        "--metric", metavar="ID", action="append", help="only this metric, task or dimension; repeatable"
    )


def run_history(args: argparse.Namespace) -> int:
    """Print the runs, or write the page."""
    from pytest_trustllm.results.history_changes import changes_of, events_of

    entries = _chosen_runs(args)
    metrics = _chosen_metrics(args, entries)
    changes = changes_of(entries, _tasks_of(metrics))
    if args.output is not None:
        from pytest_trustllm.config.files import write_whole
        from pytest_trustllm.report.page.history import render

        if args.output.suffix != ".html":
            raise ResultsError(f"-o: expected a file name that ends in .html, found {args.output}")
        write_whole(args.output, [render(entries, metrics, changes, events_of(entries))], "-o")
        say(f"history: {args.output}")
        return 0
    say(_runs_table(entries))
    for event in events_of(entries):
        say(wrapped(f"run {event.run + 1}: other {event.kind}: {event.text}", "  "))
    say()
    say(_metrics_table(entries, metrics, changes))
    return 0


def run_bisect(args: argparse.Namespace) -> int:
    """Print the changes; the status is 1 if there are none."""
    from pytest_trustllm.results.history_changes import ALPHA, changes_of, task_of, tested_metrics

    entries = _chosen_runs(args)
    if len(entries) < 2:
        raise ResultsError(f"bisect: {len(entries)} run of {_model(entries[-1])} is in the history; it takes two")
    tasks = _tasks_of(_chosen_metrics(args, entries))
    tested = {task_of(id_) for id_ in tested_metrics(entries)}
    untested = [one_line(task, 60) for task in tasks if task not in tested]
    if untested:
        warn(f"not tested, for no two runs have scores of the same samples: {', '.join(untested)}")
    if len(untested) == len(tasks):
        say("nothing was tested")
        return 1
    changes = changes_of(entries, tasks)
    if not changes:
        say(f"no metric moved over {len(entries)} runs (permutation test, {ALPHA:g} over all tasks)")
        return 1
    for change in changes:
        _print_change(entries, change, every=args.all)
    return 0


# --- what is looked at ------------------------------------------------------------------------------------------------


def _chosen_runs(args: argparse.Namespace) -> list[HistoryEntry]:
    """Return the runs of the chosen models, in their order; what is left out is told on standard error.

    Raises:
        ResultsError: There is no run of a model.
    """
    from pytest_trustllm.report.formatting import counted
    from pytest_trustllm.results.history import read

    kept = read(args.history)
    if kept.ignored:
        files = ", ".join(str(path) for path in kept.ignored[:3])
        warn(f"left out, {counted(len(kept.ignored), 'file')} without a run: {files}")
    if kept.unreadable:
        reasons = "; ".join(list(kept.unreadable.values())[:3])
        warn(f"left out, {counted(len(kept.unreadable), 'file')} that cannot be read: {reasons}")
    names = list(dict.fromkeys(_model(entry) for entry in kept.entries))
    for name in args.model or ():
        if name not in names:
            raise ResultsError(f"--model: no run of {one_line(repr(name), 60)}{suggest(name, names)}")
    wanted = args.model or [_model(kept.entries[-1])]
    others = [one_line(name, 60) for name in names if name not in wanted]
    if others and not args.model:
        warn(f"runs of other models are left out (--model): {', '.join(others)}")
    return [entry for entry in kept.entries if _model(entry) in wanted]


def _model(entry: HistoryEntry) -> str:
    return entry["results"]["run"]["model"]["name"]


def _chosen_metrics(args: argparse.Namespace, entries: Sequence[HistoryEntry]) -> list[str]:
    """Return trust scores and headline metrics, or those that ``--metric`` names.

    Raises:
        ResultsError: No run has a metric.
    """
    headlines: dict[str, None] = {}
    everything: dict[str, None] = {}
    for entry in reversed(entries):
        for dimension, score in entry["results"]["scores"].items():
            headlines[f"{dimension}/score"] = None
            headlines.update(dict.fromkeys([*score["of"], *score["missing"]]))
        everything.update(dict.fromkeys(entry["results"]["metrics"]))
    if not args.metric:
        return sorted(headlines)
    chosen: dict[str, None] = {}
    for name in args.metric:
        matching = [id_ for id_ in {**headlines, **everything} if _is_about(id_, name)]
        if not matching:
            raise ResultsError(f"--metric: no run has {one_line(repr(name), 80)}{suggest(name, everything)}")
        chosen.update(dict.fromkeys(matching))
    return sorted(chosen)


def _is_about(id_: str, name: str) -> bool:
    """Return whether a name is that of a metric, or of its task or dimension."""
    return id_ == name or id_.startswith((f"{name}.", f"{name}/"))


def _tasks_of(metrics: Iterable[str]) -> list[str]:
    from pytest_trustllm.results.history_changes import task_of

    return list(dict.fromkeys(task_of(id_) for id_ in metrics if not id_.endswith("/score")))


# --- words ------------------------------------------------------------------------------------------------------------


def _runs_table(entries: Sequence[HistoryEntry]) -> str:
    rows: list[tuple[str, ...]] = [("run", "started", "commit", "branch", "gates", "selection")]
    for number, entry in enumerate(entries, 1):
        run = entry["results"]["run"]
        commit = run.get("commit")
        id_ = "-" if commit is None else one_line(commit["id"][:_COMMIT])
        branch = "-" if commit is None else one_line(commit["branch"] or "-", 30)
        rows.append((str(number), run["started"][:16], id_, branch, _gates(entry["results"]), run["selection"]))
    return table(rows, (5, 16, 9, 30, 30, 9), right=(0,))


def _gates(results: Results) -> str:
    """Return how many gates passed, failed and so on."""
    counts: dict[str, int] = {}
    for gate in results["gates"]:
        counts[gate["outcome"]] = counts.get(gate["outcome"], 0) + 1
    return ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items()) or "none"


def _metrics_table(entries: Sequence[HistoryEntry], metrics: Sequence[str], changes: Sequence[Change]) -> str:
    rows: list[tuple[str, ...]] = [("metric", "first", "newest", "interval", "moved in run")]
    for id_ in metrics:
        numbers = [_number(entry, id_) for entry in entries]
        moved = [str(change.run + 1) for change in changes if change.metric == id_]
        first = next((value for value, _ in numbers if value is not None), None)
        newest, ci = numbers[-1]
        interval = "-" if ci is None else f"{ci[0]:.3f} to {ci[1]:.3f}"
        rows.append((one_line(id_, 80), _shown(first), _shown(newest), interval, ", ".join(moved) or "-"))
    return table(rows, (52, 8, 8, 16, 12), right=(1, 2))


def _number(entry: HistoryEntry, id_: str) -> tuple[float | None, Sequence[float] | None]:
    results = entry["results"]
    if id_.endswith("/score"):
        score = results["scores"].get(id_.removesuffix("/score"))
        return (None, None) if score is None else (score["value"], score["ci"])
    metric = results["metrics"].get(id_)
    return (None, None) if metric is None else (metric["value"], metric["ci"])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_change(entries: Sequence[HistoryEntry], change: Change, *, every: bool) -> None:
    from pytest_trustllm.results.history_changes import without_revision

    run = entries[change.run]["results"]["run"]
    commit = run.get("commit")
    at = "" if commit is None else f", commit {one_line(commit['id'][:_COMMIT])}"
    say(
        f"{one_line(change.metric, 80)}: {_shown(change.before)} to {_shown(change.after)} in run {change.run + 1} of "
        f"{len(entries)} ({run['id'][:12]}, {run['started'][:16]}{at}), p = {change.p:.2g}"
    )
    for cause in change.causes:
        say(wrapped(f"  other {cause.kind} than in run {change.previous + 1}: {cause.text}", "    "))
    if not change.causes:
        say(f"  model, judge, data and suite are recorded as in run {change.previous + 1}")
    unknown = without_revision(entries[change.run]["results"])
    if unknown:
        say(f"  no revision is recorded of {', '.join(one_line(name, 30) for name in unknown)}: it may have changed")
    shown = change.samples if every else change.samples[:_SAMPLES]
    say(f"  {len(change.samples)} of {change.compared} samples moved:")
    for sample in shown:
        say(f"    {one_line(change.task, 60)}[{one_line(sample.id, 60)}]  {sample.before:.3g} to {sample.after:.3g}")
    if len(shown) < len(change.samples):
        say(f"    and {len(change.samples) - len(shown)} more (--all)")
