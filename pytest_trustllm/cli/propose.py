"""Threshold files that a saved run passes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.errors import ResultsError, one_line

_DIGITS = Decimal("0.01")


def propose(results: Mapping[str, Any], directory: Path, path: Path) -> int:
    """Write ``<dimension>.yaml`` for every dimension of a run.

    Args:
        results: The results document.
        directory: Where to.
        path: The results file, as the user named it.

    Raises:
        ResultsError: A file is there already, or no metric has an interval.
    """
    from pytest_trustllm.results import write_whole

    texts = {name: text for name in results["scores"] if (text := _file(results, name, path)) is not None}
    if not texts:
        raise ResultsError(f"{path}: no headline metric of this run has an interval; there is nothing to propose")
    for name in texts:
        if (directory / f"{name}.yaml").exists():
            raise ResultsError(f"-o: {directory / f'{name}.yaml'} is there already; name another directory")
    for name, text in texts.items():
        write_whole(directory / f"{name}.yaml", [text], "-o")
        say(f"thresholds: {directory / f'{name}.yaml'}")
    return 0


def _file(results: Mapping[str, Any], dimension: str, path: Path) -> str | None:
    run = results["run"]
    gates = [_gate(id_, results["metrics"][id_]) for id_ in results["scores"][dimension]["of"]]
    found = [g for g in gates if g is not None]
    if not found:
        return None
    model, day = one_line(run["model"]["name"], 60), one_line(str(run["started"])[:10])
    partial = "# Only a part of the samples ran: the bounds are what that part can carry.\n"
    return (
        f"# {dimension}: what {model} reached in run {one_line(run['id'], 40)} of {day} ({one_line(path.name, 60)}).\n"
        "# Each bound is the worse end of the run's interval, rounded to the safe side; comments have the numbers.\n"
        f"{partial if run['selection'] == 'partial' else ''}"
        f"dimension: {dimension}\ngates:\n{''.join(found)}"
        "coverage: {min_scored: 0.95}\non_partial: skip\n"
    )


def _gate(id_: str, metric: Mapping[str, Any]) -> str | None:
    if metric["ci"] is None:
        return None
    low, high = metric["ci"]
    higher = metric["higher_is_better"]
    kind, limit = ("at_least", _safe(low, ROUND_FLOOR)) if higher else ("at_most", _safe(high, ROUND_CEILING))
    least, most = metric["range"]
    bound = min(max(limit, least), most)
    level = f"{100 * metric['confidence']:.6g}%"
    comment = f"{metric['value']:.3f}, {level} interval {low:.3f} to {high:.3f}, {metric['scored']} samples"
    return f"  - {{metric: {id_.partition('/')[2]}, {kind}: {bound:g}}}  # {comment}\n"


def _safe(limit: float, rounding: str) -> float:
    return float(Decimal(repr(limit)).quantize(_DIGITS, rounding))
