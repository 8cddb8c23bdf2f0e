"""Threshold files that a saved run passes."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

from pytest_trustllm.cli.output import say
from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import MetricEntry, Results

_DIGITS = Decimal("0.01")


def propose(results: Results, directory: Path, path: Path) -> int:
    """Write ``<dimension>.yaml`` for every dimension of a run.

    Args:
        results: The results document.
        directory: Where the files are written.
        path: The results file, as the user named it.

    Raises:
        ResultsError: A file already exists, or no metric has an interval.
    """
    from pytest_trustllm.config.files import write_whole

    texts: dict[Path, str] = {}
    for dimension in results["scores"]:
        text = _file_text(results, dimension, path)
        if text is not None:
            texts[directory / f"{dimension}.yaml"] = text
    if not texts:
        raise ResultsError(f"{path}: no headline metric of this run has an interval; there is nothing to propose")
    for file in texts:
        if exists(file):
            raise ResultsError(f"-o: {file} already exists; name another directory")
    for file, text in texts.items():
        write_whole(file, [text], "-o", public=True)
        say(f"thresholds: {file}")
    return 0


def _file_text(results: Results, dimension: str, path: Path) -> str | None:
    """Return a threshold file; None if no headline metric of the dimension has an interval."""
    run = results["run"]
    lines: list[str] = []
    scored_shares: list[float] = []
    for id_ in results["scores"][dimension]["of"]:
        metric = results["metrics"][id_]
        line = _gate(id_, metric)
        if line is not None:
            lines.append(line)
            scored_shares.append(_safe(metric["scored"] / metric["expected"], ROUND_FLOOR))
    if not lines:
        return None
    model = one_line(run["model"]["name"], 60)
    day = one_line(run["started"][:10])
    partial = ""
    if run["selection"] == "partial":
        partial = "# Only part of the samples ran: the bounds are as strict as that part allows.\n"
    return (
        f"# {dimension}: what {model} reached in run {one_line(run['id'], 40)} of {day} ({one_line(path.name, 60)}).\n"
        "# Each bound is the worse end of the run's interval, rounded to the safe side; comments give the numbers.\n"
        f"{partial}"
        f"dimension: {dimension}\ngates:\n{''.join(lines)}"
        f"coverage: {{min_scored: {min(*scored_shares, 0.95):g}}}\non_partial: skip\n"
    )


def _gate(id_: str, metric: MetricEntry) -> str | None:
    """Return the line of a gate that the metric's interval clears; None if the metric has no interval."""
    value, ci, confidence = metric["value"], metric["ci"], metric["confidence"]
    if value is None or ci is None or confidence is None:
        return None
    low, high = ci
    # the worse limit, rounded away from the value, so that the run itself passes
    if metric["higher_is_better"]:
        kind, limit = "at_least", _safe(low, ROUND_FLOOR)
    else:
        kind, limit = "at_most", _safe(high, ROUND_CEILING)
    least, most = metric["range"]
    bound = min(max(limit, least), most)  # rounding may leave the metric's range
    level = f"{100 * confidence:.6g}%"
    comment = f"{value:.3f}, {level} interval {low:.3f} to {high:.3f}, {metric['scored']} samples"
    return f"  - {{metric: {id_.partition('/')[2]}, {kind}: {bound:g}}}  # {comment}\n"


def _safe(limit: float, rounding: str) -> float:
    # by way of Decimal: 0.29 * 100 is a little less than 29 in floating point
    return float(Decimal(repr(limit)).quantize(_DIGITS, rounding))
