"""``pytest-trustllm compare``: two saved runs, sample by sample."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say, table
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Results

if TYPE_CHECKING:
    from pytest_trustllm.results.baseline import Baseline
    from pytest_trustllm.results.comparison import Comparison
    from pytest_trustllm.results.measurement import MeasuredRun


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two saved runs, sample by sample", allow_abbrev=False)
    parser.add_argument("old", metavar="A.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("new", metavar="B.json", type=Path, help="what another run wrote")
    parser.add_argument("--all", action="store_true", help="every metric and sub-metric, not only the headlines")
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print which samples flipped, and every metric in both runs."""
    from pytest_trustllm.report import terminal
    from pytest_trustllm.results.files import read_results

    results = read_results(args.new)
    old, measured = measure_beside(args, args.old, args.new, results)
    comparison = measured.compared(results["run"])
    if not any(pairing.shared for pairing in measured.pairs.values()):
        raise ResultsError(f"{args.old} and {args.new} share no sample; there is nothing to compare")
    say(f"A: {_run(args.old, old.results)}")
    say(f"B: {_run(args.new, results)}")
    # the first line names the baseline, which the line "A" has done
    for line in list(terminal.baseline_lines(comparison))[1:]:
        say(line)
    say()
    say(_table(measured, every=args.all))
    return 0


def measure_beside(args: argparse.Namespace, old: Path, new: Path, results: Results) -> tuple[Baseline, MeasuredRun]:
    """Return an earlier run, and a later one with the earlier as its baseline.

    Args:
        args: What :func:`~pytest_trustllm.cli.suites.add_suites` declares.
        old: Results file of the earlier run.
        new: Results file of the later run.
        results: The document in ``new``.

    Raises:
        TrustLLMError: A file is invalid, or the suites are not those of both runs.
    """
    from pytest_trustllm.results.baseline import read_baseline
    from pytest_trustllm.results.coverage import selection_from
    from pytest_trustllm.results.files import records_of
    from pytest_trustllm.results.measurement import MeasuredRun
    from pytest_trustllm.results.recomputation import early_tasks

    earlier = read_baseline(Path.cwd() / old, "A", Path.cwd())
    suites = suites_of(args, [(old, earlier.results), (new, results)])
    tasks = [task for suite in suites for task in suite.tasks]
    measured = MeasuredRun(
        tasks,
        records_of(results, new),
        selection_from(results["coverage"], tasks),
        seed=results["run"]["seed"],
        baseline=earlier,
        definitions=results["run"].get("tasks", {}),
        early=early_tasks(results),
    )
    return earlier, measured


def _run(path: Path, results: Results) -> str:
    run = results["run"]
    model = one_line(run["model"]["name"], 60)
    day = one_line(run["started"][:10])
    partial = ", partial selection" if run["selection"] == "partial" else ""
    stop = run.get("stop")
    early = "" if stop is None else f", asked {stop['asked']:,} of {stop['planned']:,} samples"
    return f"{path} ({model}, {day}{partial}{early})"


def _table(measured: MeasuredRun, *, every: bool) -> str:
    from pytest_trustllm.results.metric_inputs import whole_of

    rows: list[tuple[str, ...]] = [("metric", "A", "B", "B - A", "95% interval", "p worse", "samples")]
    for id_ in _ids(measured, every=every):
        comparison = measured.compare(id_)
        if comparison is not None:
            # a trust score is not a metric: higher is always better
            metric = measured.metrics.get(whole_of(id_))
            lower_is_better = metric is not None and not metric.higher_is_better
            rows.append(_row(comparison, lower_is_better=lower_is_better))
    note = "p worse: how likely a model that is no worse than A would lose as much; * lower is better"
    return table(rows, (48, 8, 8, 8, 18, 8, 8), right=range(1, 7)) + f"\n{note}"


def _ids(measured: MeasuredRun, *, every: bool) -> Iterator[str]:
    """Yield each trust score and after it its headline metrics, or every metric of its dimension."""
    for dimension, score in measured.scores.items():
        yield f"{dimension}/score"
        headlines = {*score.of, *score.missing}
        for id_ in measured.compared_metrics():
            if id_.startswith(f"{dimension}/") and (every or id_ in headlines):
                yield id_


def _row(comparison: Comparison, *, lower_is_better: bool) -> tuple[str, ...]:
    interval = comparison.interval
    star = "*" if lower_is_better else ""
    return (
        f"{one_line(comparison.id, 80)}{star}",
        _number(comparison.old),
        _number(comparison.new),
        _number(comparison.difference, sign="+"),
        "-" if interval is None else f"{interval.low:+.3f} to {interval.high:+.3f}",
        "-" if comparison.p_worse is None else f"{comparison.p_worse:.2g}",
        str(comparison.shared),
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
