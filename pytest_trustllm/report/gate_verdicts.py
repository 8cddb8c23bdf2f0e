"""The verdicts of the gates: each with its margin and what would change it, and one for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import GateEntry, LimitsEntry, MetricEntry, Results, ScoresEntry
from pytest_trustllm.report.formatting import (
    Course,
    Strip,
    counted,
    course_of,
    interval,
    items_link,
    range_of,
    strip,
    task_of,
)

_ORDER = ("failed", "no_data", "inconclusive", "passed", "skipped")
"""Outcomes in the order of the table: those that need attention first."""
_TONES = {"passed": "good", "skipped": "quiet"}
_BOUNDS = ("at_least", "at_most")
_ROUNDING = 1e-9
"""0.8 * 100 is a little more than 80; a count of samples must not be one too many because of that."""


@dataclass(frozen=True, slots=True)
class GateLine:
    """A line of the gates table.

    Attributes:
        id: Node id.
        metric: What the gate is about, without the dimension.
        dimension: Of the metric.
        outcome: ``passed``, ``failed``, ``skipped`` and so on.
        uncovered: It failed because too few of its samples have a score, whatever the value of the others.
        tone: How the outcome is coloured: ``good``, ``bad``, ``warn`` or ``quiet``.
        value: What was judged.
        interval: Its interval, in words; empty if there is none.
        bound: Such as ``at least 0.8``.
        margin: How far the value is on the good side of the bound; negative on the other side. None too if the value
            did not decide, because too few samples have a score.
        reason: One line.
        why: The same, to be read after the metric's name.
        change: What would change the outcome, in one sentence; empty if that cannot be told.
        strip: Value, interval and bound on a line; None where the range is not known.
        link: Address of the items behind it.
        line: Its line in the threshold file, if that is known.
        course: How its limits closed in; None if all samples were asked, or the verdict rests on no limits.
        another: Probability that an identical run gets another verdict; None if it is unknown.
        sees: The loss that turns the gate red in 80 % of runs; None if it is unknown.
    """

    id: str
    metric: str
    outcome: str
    tone: str
    value: float | None
    interval: str
    bound: str
    margin: float | None
    reason: str
    why: str
    change: str
    strip: Strip | None
    link: str
    line: int | None
    course: Course | None = None
    another: float | None = None
    sees: float | None = None
    dimension: str = ""
    uncovered: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it needs no attention."""
        return self.tone in ("good", "quiet")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first thing a reader sees: a word, and a sentence that gives its reason."""

    tone: str
    word: str
    sentence: str


def gates_of(results: Results) -> list[GateLine]:
    """Return the gates, those that need attention first."""
    lines = [_line(gate, results) for gate in results["gates"]]
    return sorted(lines, key=lambda line: _ORDER.index(line.outcome))


def verdict_of(gates: Sequence[GateLine], left_out: str = "") -> Verdict:
    """Return one verdict for all gates.

    Args:
        gates: Of one run.
        left_out: What no gate covers, in words.
    """
    if not gates:
        return Verdict("quiet", "Not judged", left_out or "there are no gates")
    failed = sum(gate.tone == "bad" for gate in gates)
    warned = sum(gate.tone == "warn" for gate in gates)
    passed = sum(gate.outcome == "passed" for gate in gates)
    skipped = sum(gate.outcome == "skipped" for gate in gates)
    notes = _notes(warned, skipped, left_out)
    every = counted(len(gates), "gate")
    # the tone of a gate that only warns is never bad
    if failed:
        uncovered = sum(gate.uncovered for gate in gates if gate.tone == "bad")
        lacking = f", {uncovered} for lack of coverage" if uncovered else ""
        return Verdict("bad", "Failed", f"{failed} of {every} not met{lacking}{notes}")
    if passed:
        met = f"{counted(passed, 'gate')} met{notes}"
        if passed > 1 and not notes:
            met = f"all {met}"
        return Verdict("good", "Passed", met)
    if warned:
        return Verdict("quiet", "Not judged", f"none of {every} met{notes}")
    return Verdict("quiet", "Not judged", f"all {every} skipped{_notes(0, 0, left_out)}")


def _notes(warned: int, skipped: int, left_out: str) -> str:
    """Return what a verdict is followed by, each note after a semicolon."""
    notes = ""
    if warned:
        notes += f"; {warned} warned"
    if skipped:
        notes += f"; {skipped} skipped"
    if left_out:
        notes += f"; {left_out}"
    return notes


@dataclass(frozen=True, slots=True)
class _Subject:
    """The metric or trust score that a gate is about.

    Attributes:
        range: Least and greatest possible value.
        ci: Its own interval, at the confidence of the run.
        corrected_ci: Interval without the mistakes of its judge; None if it is not corrected.
        scored: Samples with a score; None for a trust score, which is a mean of several metrics.
        measured: The run has it.
    """

    range: tuple[float, float] = (0.0, 1.0)
    ci: LimitsEntry | None = None
    corrected_ci: LimitsEntry | None = None
    scored: int | None = None
    measured: bool = True


def _line(gate: GateEntry, results: Results) -> GateLine:
    subject = _subject(gate, results)
    ci = gate["ci"]
    if ci is None and gate["scoring"] == "value":  # the run's intervals are those of this reading
        ci = subject.ci
    elif ci is None and gate["scoring"] == "corrected":
        ci = subject.corrected_ci
    drawn = None
    if gate["value"] is not None and gate["kind"] in _BOUNDS and subject.measured:
        drawn = strip(gate["value"], ci, subject.range, bound=gate["bound"])
    about = one_line(gate["metric"].partition("/")[2])
    reason = one_line(gate["reason"], 500)
    return GateLine(
        id=one_line(gate["id"]),
        metric=about,
        outcome=gate["outcome"],
        tone=tone_of(gate),
        value=gate["value"],
        interval=interval(ci, subject.range),
        bound=_bound(gate),
        margin=_margin(gate),
        reason=reason,
        why=_without_metric(reason, about),
        change=_change(gate, subject, ci),
        strip=drawn,
        link=items_link(_scope(gate["metric"])),
        line=gate["line"],
        course=course_of(gate["early"]["course"], gate["bound"], subject.range) if "early" in gate else None,
        another=gate["power"]["another_verdict"] if "power" in gate else None,
        sees=gate["power"]["drop"] if "power" in gate else None,
        dimension=one_line(gate["metric"].partition("/")[0], 60),
        uncovered="lacking" in gate,
    )


def _without_metric(reason: str, metric: str) -> str:
    if not metric:
        return reason
    return reason.removeprefix(metric).removeprefix(":").strip()


def tone_of(gate: GateEntry) -> str:
    """Return how the outcome of a gate is coloured: ``good``, ``bad``, ``warn`` or ``quiet``."""
    if gate["warn"]:
        return "warn"
    return _TONES.get(gate["outcome"], "bad")


def _subject(gate: GateEntry, results: Results) -> _Subject:
    id_ = gate["metric"]
    if id_.endswith("/score"):
        score: ScoresEntry | None = results["scores"].get(id_.removesuffix("/score"))
        if score is None:
            return _Subject(measured=False)
        return _Subject(ci=score["ci"])
    metric: MetricEntry | None = results["metrics"].get(id_)
    if metric is None:
        return _Subject(measured=False)
    corrected = metric.get("judge_corrected")
    corrected_ci = None if corrected is None else corrected["ci"]
    return _Subject(range_of(metric), metric["ci"], corrected_ci, metric["scored"])


def _margin(gate: GateEntry) -> float | None:
    if gate["value"] is None or "lacking" in gate:
        return None
    above = gate["value"] - gate["bound"]
    if gate["kind"] == "at_least":
        return above
    return -above


def _change(gate: GateEntry, subject: _Subject, ci: Sequence[float] | None) -> str:
    """Return what would change the outcome, counted in samples where the value is a plain share of them."""
    outcome = gate["outcome"]
    margin = _margin(gate)
    if outcome == "skipped":
        if gate["reason"].startswith("partial"):
            return "It is judged when all its samples are selected."
        return ""
    if "early" in gate:  # its samples decide it as far as they were asked: the others count too
        return ""
    if "lacking" in gate:
        lacking = gate["lacking"]
        if lacking == 1:
            return "The value counts once 1 more sample has a score."
        return f"The value counts once {lacking:,} more samples have a score."
    if outcome == "no_data" or margin is None:
        return ""
    if outcome == "inconclusive":
        return _decided(gate, margin, ci)
    return _across(gate, subject, margin)


def _across(gate: GateEntry, subject: _Subject, margin: float) -> str:
    """Return what would put the value on the other side of its bound; empty if something else decided."""
    passed = gate["outcome"] == "passed"
    # an outcome that contradicts the margin was not decided by the bound
    if gate["kind"] not in _BOUNDS or passed != (margin >= 0):
        return ""
    word = "Fails" if passed else "Passes"
    samples = _samples_to_flip(gate, subject, margin)
    if samples is not None:
        flip = "flips" if samples == 1 else "flip"
        return f"{word} if {samples:,} of {subject.scored:,} samples {flip}."
    way = "falls" if (gate["kind"] == "at_least") == passed else "rises"
    amount = "more than" if passed else "at least"  # a value at its bound passes
    return f"{word} if the value {way} by {amount} {abs(margin):.3g}."


def _decided(gate: GateEntry, margin: float, ci: Sequence[float] | None) -> str:
    """Return how many more samples would settle an interval that contains its bound, if the value stays."""
    further = gate["further"]
    if further is not None:
        return f"About {further:,} further samples would decide it, if the value stays."
    if ci is None or not margin:
        return "More samples would decide it."
    # an interval's width goes with the square root of the number of samples
    times = ((ci[1] - ci[0]) / 2 / abs(margin)) ** 2
    return f"About {max(2, math.ceil(times)):,} times as many samples would decide it, if the value stays."


def _samples_to_flip(gate: GateEntry, subject: _Subject, margin: float) -> int | None:
    """Return how many samples would have to flip; None unless the value is a share of the scored samples."""
    value = gate["value"]
    scored = subject.scored
    if value is None or not scored or subject.range != (0.0, 1.0) or gate["scoring"] == "corrected":
        return None
    met = value * scored
    # not a whole number of samples: a mean of something else, such as graded answers
    if abs(met - round(met)) > 1e-6 * scored:
        return None
    surplus = margin * scored
    if margin >= 0:
        return math.floor(surplus + _ROUNDING) + 1  # a value at its bound passes: one more must flip
    return math.ceil(-surplus - _ROUNDING)


def _bound(gate: GateEntry) -> str:
    words = f"{gate['kind'].replace('_', ' ')} {gate['bound']!r}"
    if gate["scoring"] != "value":
        words += f" ({gate['scoring']})"
    if gate["confidence"] is not None:
        words += f", {100 * gate['confidence']:.4g} % sure"
    return one_line(words, 80)


def _scope(metric: str) -> str:
    """Return what the items behind a metric, or behind ``dimension/score``, are selected by."""
    if metric.endswith("/score"):
        return metric.removesuffix("/score")
    return task_of(metric)
