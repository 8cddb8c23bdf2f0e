"""``pytest-trustllm compare``: two saved runs, sample by sample."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say, table
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.errors import ResultsError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.comparison import Comparison
    from pytest_trustllm.measured import Measured


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two saved runs, sample by sample", allow_abbrev=False)
    parser.add_argument("old", metavar="A.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("new", metavar="B.json", type=Path, help="what another run wrote")
    parser.add_argument("--all", action="store_true", help="every metric and sub-metric, not the headlines alone")
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print which samples flipped, and every metric in both runs."""
    from pytest_trustllm.baseline import read_baseline
    from pytest_trustllm.coverage import selection_from
    from pytest_trustllm.measured import Measured
    from pytest_trustllm.report import text
    from pytest_trustllm.saved import read_results, records_of

    old = read_baseline(Path.cwd() / args.old, "A", Path.cwd())
    results = read_results(args.new)
    try:
        suites = suites_of(args, [(args.old, old.results), (args.new, results)])
        tasks = [t for s in suites for t in s.tasks]
        run = results["run"]
        selection = selection_from(results["coverage"], tasks)
        measured = Measured(tasks, records_of(results, args.new), selection, seed=run["seed"], baseline=old)
        flips = measured.compared(run)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ResultsError(f"{args.new}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None
    if not any(p.now for p in measured.pairs.values()):
        raise ResultsError(f"{args.old} and {args.new} share no sample; there is nothing to compare")
    say(f"A: {_run(args.old, old.results)}")
    say(f"B: {_run(args.new, results)}")
    for line in list(text.baseline_lines(flips))[1:]:
        say(line)
    say()
    say(_table(measured, every=args.all))
    return 0


def _run(path: Path, results: Mapping[str, Any]) -> str:
    run = results["run"]
    partial = ", partial selection" if run.get("selection") == "partial" else ""
    return f"{path} ({one_line(run['model']['name'], 60)}, {one_line(str(run['started'])[:10])}{partial})"


def _table(measured: Measured, *, every: bool) -> str:
    rows: list[tuple[str, ...]] = [("metric", "A", "B", "B - A", "95% interval", "p worse", "samples")]
    for id_ in _ids(measured, every=every):
        found = measured.compare(id_)
        if found is not None:
            rows.append(
                _row(found, lower_is_better=id_ in measured.metrics and not measured.metrics[id_].higher_is_better)
            )
    note = "p worse: how likely a model that is no worse than A would lose as much; * lower is better"
    return table(rows, (48, 8, 8, 8, 18, 8, 8), right=range(1, 7)) + f"\n{note}"


def _ids(measured: Measured, *, every: bool) -> Iterator[str]:
    for dimension, score in measured.scores.items():
        yield f"{dimension}/score"
        mine = [id_ for id_ in measured.metrics if id_.startswith(f"{dimension}/")]
        yield from (id_ for id_ in mine if every or id_ in {*score.of, *score.missing})


def _row(found: Comparison, *, lower_is_better: bool) -> tuple[str, ...]:
    interval = found.interval
    return (
        one_line(found.id, 80) + ("*" if lower_is_better else ""),
        _number(found.old),
        _number(found.new),
        _number(found.difference, sign="+"),
        "-" if interval is None else f"{interval.low:+.3f} to {interval.high:+.3f}",
        "-" if found.p_worse is None else f"{found.p_worse:.2g}",
        str(found.shared),
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
