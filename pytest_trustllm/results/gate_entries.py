"""Whether the verdict on a gate, as a results file has it, follows from the numbers of the same file."""

from __future__ import annotations

import math
from collections.abc import Callable

from pytest_trustllm.formats import GateEntry, Results
from pytest_trustllm.gates.verdict import BOUND_KINDS
from pytest_trustllm.types import GateScoring, Interval

IntervalOf = Callable[[str, float, GateScoring], Interval | None]
"""Returns the interval of a metric or trust score at a confidence, of one reading."""
_SAME = 1e-9
"""Drops are differences of two recorded numbers, which rounding may change in the last digits."""


def unchecked_because(entry: GateEntry, results: Results) -> str | None:
    """Return why the verdict on a gate cannot be found from its entry alone; None if it can."""
    if entry.get("failed_before"):
        return "it failed in the run before"
    if entry["outcome"] in ("skipped", "no_data") and not _asked_whole(entry, results):
        return "not all of its samples were asked"
    if "early" not in entry and entry["outcome"] not in ("skipped", "no_data") and not _asked_whole(entry, results):
        return "it may be about an estimate, for not all of its samples were asked"
    return None


def contradiction(entry: GateEntry, results: Results, interval_of: IntervalOf | None = None) -> str | None:
    """Return in words how the verdict on a gate contradicts the numbers; None if it does not.

    An unchecked one contradicts nothing here: see :func:`unchecked_because`.

    Args:
        entry: The gate, one of the results.
        results: The results file.
        interval_of: Computes intervals again; None: those of the entry are believed.
    """
    if entry["kind"] not in BOUND_KINDS:
        return f"{entry['kind']!r} is no kind of gate"
    if unchecked_because(entry, results) is not None:
        return None
    if entry["outcome"] in ("skipped", "no_data"):
        return _of_unjudged(entry, results)
    if entry["value"] is None:
        return "it passed without a value" if entry["outcome"] == "passed" else None
    if _is_drop(entry) and entry.get("now") is None:
        # too few of the shared samples have a score
        return None if entry["outcome"] == "failed" else "it has no numbers to compare"
    wrong_value = _of_value(entry, results)
    if wrong_value is not None:
        return wrong_value
    if entry.get("lacking") is not None:
        return None if entry["outcome"] == "failed" else "samples lack a score, so it cannot pass"
    wrong_interval = None if interval_of is None else _of_interval(entry, interval_of)
    if wrong_interval is not None:
        return wrong_interval
    possible = _possible(entry)
    if entry["outcome"] in possible:
        return None
    return f"{entry['value']:.6g} and the bound {entry['bound']:g} give {' or '.join(possible)}, not {entry['outcome']}"


def _asked_whole(entry: GateEntry, results: Results) -> bool:
    """Return whether every sample of a gate's tasks was selected, and none waits, was cut or was not needed."""
    dimension, _, name = entry["metric"].partition("/")
    task = f"{dimension}/{name.partition('{')[0].rpartition('.')[0]}"
    if results["run"].get("stopped"):
        return False
    for id_, counts in results["coverage"].items():
        concerned = id_ == task or (name == "score" and id_.startswith(f"{dimension}/"))
        asked = counts["collected"] == counts["expected"] and not counts.get("unneeded")
        # what a batch or the budget left for another run is lost for this one
        if concerned and not (asked and not counts["lost"]):
            return False
    return True


def _of_unjudged(entry: GateEntry, results: Results) -> str | None:
    """Return what is wrong with a gate that was not judged though all of its samples were asked."""
    if entry["outcome"] == "no_data" or entry["metric"].endswith("/score"):
        return None
    metric = results["metrics"].get(entry["metric"])
    if metric is None or not metric["scored"]:
        return None
    return f"it was skipped, but {metric['scored']} samples of {entry['metric']} have a score"


def _of_value(entry: GateEntry, results: Results) -> str | None:
    """Return what is wrong with the number that was judged."""
    value = entry["value"]
    if _is_drop(entry):
        return _of_drop(entry)
    expected = _measured(entry, results)
    if expected == value:
        return None
    found = "none" if expected is None else f"{expected:.6g}"
    return f"it judged {value:.6g}, and {entry['metric']} is {found}"


def _of_drop(entry: GateEntry) -> str | None:
    before, now, value = entry.get("before"), entry.get("now"), entry["value"]
    if before is None or now is None or value is None:
        return "it has no numbers to compare"
    if math.isclose(abs(before - now), abs(value), abs_tol=_SAME):
        return None
    return f"it judged a drop of {value:.6g}, and from {before:.6g} to {now:.6g} are {abs(before - now):.6g}"


def _measured(entry: GateEntry, results: Results) -> float | None:
    """Return the number of a results file that a gate is about."""
    if entry["metric"].endswith("/score"):
        score = results["scores"].get(entry["metric"].removesuffix("/score"))
        return None if score is None else score["value"]
    metric = results["metrics"].get(entry["metric"])
    if metric is None:
        return None
    if entry["scoring"] == "corrected":
        corrected = metric.get("judge_corrected")
        return None if corrected is None else corrected["value"]
    return metric["parity"] if entry["scoring"] == "parity" else metric["value"]


def _of_interval(entry: GateEntry, interval_of: IntervalOf) -> str | None:
    """Return what is wrong with the interval that was judged."""
    confidence, scoring = entry["confidence"], entry["scoring"]
    if confidence is None or _is_drop(entry) or "early" in entry:
        return None
    interval = interval_of(entry["metric"], confidence, scoring)
    found = None if interval is None else [interval.low, interval.high]
    if found == (None if entry["ci"] is None else list(entry["ci"])):
        return None
    return f"it judged the interval {entry['ci']}, and the samples give {found}"


def _possible(entry: GateEntry) -> list[str]:
    """Return the outcomes that a gate's number and interval allow."""
    value, bound = entry["value"], entry["bound"]
    assert value is not None  # noqa: S101 - callers have looked
    if "early" in entry:
        return [entry["early"]["outcome"]] if _decides(entry) else ["no verdict"]
    if _is_drop(entry):
        if value <= bound:
            return ["passed"]
        if entry["confidence"] is None:
            return ["failed"]
        return ["failed", "inconclusive"]
    at_least = entry["kind"] == "at_least"
    if entry["confidence"] is None:
        met = value >= bound if at_least else value <= bound
        return ["passed" if met else "failed"]
    if entry["ci"] is None:
        return ["inconclusive"]
    low, high = entry["ci"]
    if low >= bound if at_least else high <= bound:
        return ["passed"]
    if high < bound if at_least else low > bound:
        return ["failed"]
    return ["inconclusive"]


def _decides(entry: GateEntry) -> bool:
    """Return whether the limits of an early decision allow it; evidence on the bound itself may be narrower."""
    decision = entry["early"]
    if decision["limits"] is None:
        return True
    low, high = decision["limits"]
    wants_high = (decision["outcome"] == "passed") == (entry["kind"] == "at_least")
    return high >= entry["bound"] if wants_high else low <= entry["bound"]


def _is_drop(entry: GateEntry) -> bool:
    return entry["kind"] == "max_drop"
