"""What the gates say: each with its margin and what would change it, and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report.figures import Strip, interval, items_link, range_of, strip, task_of

_ORDER = ("failed", "no_data", "inconclusive", "passed", "skipped")
_TONES = {"passed": "good", "skipped": "quiet"}


@dataclass(frozen=True, slots=True)
class Gate:
    """A line of the gates table.

    Attributes:
        id: Node id.
        metric: What it is about, without the dimension.
        outcome: ``passed``, ``failed``, ``skipped`` and so on.
        tone: How the outcome is coloured.
        value: What was judged.
        interval: Its interval, in words; empty if there is none.
        bound: Such as ``at least 0.8``.
        margin: How far the value is on the good side of the bound; negative on the other.
        reason: One line.
        why: The same to be read after the metric's name.
        change: What would change the outcome, in one sentence; empty if that cannot be told.
        strip: Value, interval and bound on a line; None where the range is not known.
        link: Items behind it.
        line: Where it stands in its threshold file, if that is known.
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first thing a reader sees: a word, and a sentence that gives its reason."""

    tone: str
    word: str
    sentence: str


def gates_of(results: Mapping[str, Any]) -> list[Gate]:
    """Return the gates, those that need attention first."""
    rank = {outcome: i for i, outcome in enumerate(_ORDER)}
    return sorted((_gate(g, results) for g in results["gates"]), key=lambda g: rank.get(g.outcome, 0))


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return what the gates say together."""
    bad = sum(g.tone == "bad" for g in gates)
    passed, skipped = (sum(g.outcome == outcome for g in gates) for outcome in ("passed", "skipped"))
    warned = sum(g.tone == "warn" for g in gates)
    left = (f"; {warned} warned" if warned else "") + (f"; {skipped} skipped" if skipped else "")
    if not gates:
        return Verdict("quiet", "Not judged", "there are no gates")
    if bad:
        return Verdict("bad", "Failed", f"{bad} of {_gates(len(gates))} not met{left}")
    if not passed:
        why = f"none of {_gates(len(gates))} met{left}" if warned else f"all {_gates(skipped)} skipped"
        return Verdict("quiet", "Not judged", why)
    return Verdict("good", "Passed", f"{'all ' if passed > 1 and not left else ''}{_gates(passed)} met{left}")


def _gates(count: int) -> str:
    return f"{count} {'gate' if count == 1 else 'gates'}"


def _gate(g: Mapping[str, Any], results: Mapping[str, Any]) -> Gate:
    metric = _judged(g, results)
    value, kind, bound = g["value"], g.get("kind"), g["bound"]
    ci = g.get("ci") or (metric.get("ci") if g.get("scoring") != "parity" else None)
    comparable = value is not None and kind in ("at_least", "at_most")
    margin = None if value is None else value - bound if kind == "at_least" else bound - value
    range_ = range_of(metric)
    about, reason = _about(g), one_line(g["reason"], 500)
    return Gate(
        id=one_line(g["id"]),
        metric=about,
        outcome=one_line(g["outcome"], 20),
        tone=_tone(g),
        value=value,
        interval=interval(ci, range_),
        bound=_bound(g),
        margin=margin,
        reason=reason,
        why=reason.removeprefix(about).removeprefix(":").strip() if about else reason,
        change=_change(g, metric, margin, ci),
        strip=strip(value, ci, range_, bound=bound) if comparable and metric else None,
        link=items_link(_scope(g)),
        line=g.get("line"),
    )


def _tone(gate: Mapping[str, Any]) -> str:
    if gate.get("warn"):
        return "warn"
    return _TONES.get(gate["outcome"], "bad")


def _judged(gate: Mapping[str, Any], results: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metric or trust score that a gate is about; empty if the document has none."""
    id_ = str(gate.get("metric", ""))
    if id_.endswith("/score"):
        score: Mapping[str, Any] = results["scores"].get(id_.removesuffix("/score"), {})
        return score
    metric: Mapping[str, Any] = results["metrics"].get(id_, {})
    return metric


def _change(
    gate: Mapping[str, Any], metric: Mapping[str, Any], margin: float | None, ci: Sequence[float] | None
) -> str:
    """Return what would change the outcome: it is counted where the value is a plain share of samples."""
    outcome, reason = gate["outcome"], str(gate["reason"])
    if outcome == "skipped":
        return "It is judged when all its samples are selected." if reason.startswith("partial") else ""
    if isinstance(gate.get("lacking"), int):
        more = f"{gate['lacking']:,} more {'sample has' if gate['lacking'] == 1 else 'samples have'}"
        return f"The value counts once {more} a score."
    if outcome == "no_data" or margin is None:
        return ""
    if outcome == "inconclusive":
        return _decided(gate, margin, ci)
    if gate.get("kind") not in ("at_least", "at_most") or (outcome == "passed") != (margin >= 0):
        return ""  # no such bound, or something else than the bound decided
    word = "Fails" if outcome == "passed" else "Passes"
    turns = _turns(gate, metric, margin)
    if turns:
        return f"{word} if {turns} of {metric['scored']:,} samples {'turns' if turns == '1' else 'turn'}."
    way = "falls" if (gate.get("kind") == "at_least") == (outcome == "passed") else "rises"
    return f"{word} if the value {way} by {'more than' if word == 'Fails' else 'at least'} {abs(margin):.3g}."


def _decided(gate: Mapping[str, Any], margin: float, ci: Sequence[float] | None) -> str:
    """Return how many more samples would settle an interval that contains its bound, if the value stays."""
    further = gate.get("further")
    if isinstance(further, int):
        return f"About {further:,} further samples would decide it, if the value stays."
    if not ci or not margin:
        return "More samples would decide it."
    times = ((ci[1] - ci[0]) / 2 / abs(margin)) ** 2
    return f"About {max(2, math.ceil(times)):,} times as many samples would decide it, if the value stays."


def _turns(gate: Mapping[str, Any], metric: Mapping[str, Any], margin: float) -> str:
    """Return how many samples decide, where the value is the share of samples that it looks like."""
    scored, value = metric.get("scored"), gate["value"]
    if not scored or range_of(metric) != (0.0, 1.0) or abs(value * scored - round(value * scored)) > 1e-6 * scored:
        return ""
    count = margin * scored
    return f"{math.floor(count + 1e-9) + 1 if margin >= 0 else math.ceil(-count - 1e-9):,}"


def _bound(gate: Mapping[str, Any]) -> str:
    kind = str(gate.get("kind", "")).replace("_", " ")
    reading = " (parity)" if gate.get("scoring") == "parity" else ""
    sure = gate.get("confidence")
    certain = f", {100 * sure:.4g} % sure" if isinstance(sure, int | float) else ""
    return one_line(f"{kind} {gate['bound']!r}{reading}{certain}".strip(), 80)


def _about(gate: Mapping[str, Any]) -> str:
    return one_line(str(gate.get("metric", "")).partition("/")[2])


def _scope(gate: Mapping[str, Any]) -> str:
    metric = str(gate.get("metric", ""))
    return metric.removesuffix("/score") if metric.endswith("/score") else task_of(metric)
