"""``pytest-trustllm power``: what the gates of a saved run can see, or will see in a run of fewer samples."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import count
from pytest_trustllm.cli.output import say, table, wrapped
from pytest_trustllm.cli.rejudging import add_judging, judge_again
from pytest_trustllm.errors import ResultsError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.formats import PowerEntry
    from pytest_trustllm.gates.verdict import GateResult
    from pytest_trustllm.results.measurement import MeasuredRun

SCHEMA = "pytest-trustllm/power/1"
_HEAD = ("gate", "value", "verdict", "another verdict", "detects a loss", "in 95 % of runs with", "from")
_WIDTHS = (44, 8, 12, 8, 8, 14, 9)


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "power", help="what the gates of a saved run can see, and how stable their verdicts are", allow_abbrev=False
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument(
        "--limit", metavar="N", type=count, help="for a run to come of at most N samples per task, as --trust-limit"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_judging(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a line per gate."""
    from pytest_trustllm.results.files import read_results, records_of, samples_of
    from pytest_trustllm.results.power import power_of

    results = read_results(args.results)
    records = records_of(results, args.results)
    again = judge_again(args, args.results, results, records, samples_of(results, args.results))
    if not again.verdicts:
        raise ResultsError("power: no gate is about this run; name its threshold files with --thresholds")
    powers = [power_of(again.measured, verdict, args.limit) for verdict in again.verdicts]
    if args.json:
        say(json.dumps(_document(args, again.verdicts, powers), indent=1))
        return 0
    say(_table(again.verdicts, powers))
    for note in _notes(args, again.measured, again.verdicts, powers):
        say(wrapped(note, "  "))
    return 0


def _document(
    args: argparse.Namespace, verdicts: Sequence[GateResult], powers: Sequence[PowerEntry | None]
) -> dict[str, Any]:
    gates: list[dict[str, Any]] = []
    for verdict, power in zip(verdicts, powers, strict=True):
        entry = verdict.entry()
        names = ("id", "metric", "kind", "bound", "confidence", "outcome", "value")
        gates.append({**{name: dict(entry)[name] for name in names}, "power": power})
    return {"schema": SCHEMA, "results": str(args.results), "limit": args.limit, "gates": gates}


def _table(verdicts: Sequence[GateResult], powers: Sequence[PowerEntry | None]) -> str:
    rows: list[Sequence[str]] = [_HEAD]
    for verdict, power in zip(verdicts, powers, strict=True):
        gate = verdict.gate
        name = one_line(f"{gate.metric} {gate.kind} {gate.bound:g}", 80)
        if gate.confidence is not None:
            name += f", confidence {gate.confidence:g}"
        value = "-" if verdict.value is None else f"{verdict.value:.3f}"
        rows.append((name, value, verdict.outcome.replace("_", " "), *_power_cells(power)))
    return table(rows, _WIDTHS, right=(1, 3, 4, 5))


def _power_cells(power: PowerEntry | None) -> tuple[str, str, str, str]:
    if power is None:
        return "-", "-", "-", "-"
    drop = "-" if power["drop"] is None else f"{power['drop']:.3f}"
    more = "-" if power["samples_more"] is None else f"{power['samples_more']:,} samples"
    if power["epochs_more"] is not None:
        more += f" or {power['epochs_more']} epochs"
    return f"{power['another_verdict']:.1%}", drop, more, power["source"]


def _notes(
    args: argparse.Namespace,
    measured: MeasuredRun,
    verdicts: Sequence[GateResult],
    powers: Sequence[PowerEntry | None],
) -> list[str]:
    """Return what the table means, and what it leaves out."""
    samples = "as many samples" if args.limit is None else f"at most {args.limit} samples per task"
    another = f"another verdict: how often the same model gets another verdict in a run of {samples}"
    loss = "detects a loss: the least loss of the true number that turns the gate red in 80 % of such runs"
    more = (
        "in 95 % of runs with: the samples or epochs that a run needs to turn red in 95 % of runs after that same loss"
    )
    notes = [f"{another}; {loss}; {more}"]
    unknown = sum(power is None for power in powers)
    if unknown:
        why = "have no verdict on all of their samples, judge a corrected rate, or have no known spread"
        notes.append(f"{unknown} of {len(powers)} gates {why}")
    total = max(measured.ran.totals.values(), default=0)
    if args.limit is not None and args.limit < total:
        skipped = sum(verdict.gate.policy.on_partial == "skip" for verdict in verdicts)
        if skipped:
            notes.append(
                f"{skipped} of {len(verdicts)} gates are skipped in a run of a part of the samples; "
                "on_partial: estimate lets them judge it"
            )
    return notes
