"""The gates of a page by dimension, each on one line with its details below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_trustllm.report.formatting import number
from pytest_trustllm.report.gate_verdicts import GateLine

_MOST_UNFOLDED = 40
"""With more gates than this, those that need no attention are folded."""


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate's line.

    Attributes:
        gate: The gate.
        name: Its metric; nobody needs the dimension, which heads the group.
        word: Its outcome; ``no coverage`` if too few samples have a score.
        margin: How far the value is from its bound; None if that did not decide the outcome.
        sees: The loss that it would notice in 80 % of runs; None if it is not met, or nobody can say.
        power: What its verdict is worth, in sentences.
    """

    gate: GateLine
    name: str
    word: str
    margin: float | None
    sees: float | None
    power: Sequence[str]


@dataclass(frozen=True, slots=True)
class GateGroup:
    """The gates of a dimension.

    Attributes:
        summary: How many of them are met, in words.
        rows: Shown at once, the worst first.
        folded: Those that need no attention, if there are too many to show them all at once.
    """

    dimension: str
    summary: str
    rows: Sequence[GateRow]
    folded: Sequence[GateRow]


def grouped(gates: Sequence[GateLine], dimensions: Iterable[str]) -> list[GateGroup]:
    """Return the gates by dimension.

    Args:
        gates: Of one run.
        dimensions: Their order on the page; others follow.
    """
    by_dimension: dict[str, list[GateLine]] = {name: [] for name in dimensions}
    for gate in gates:
        by_dimension.setdefault(gate.dimension, []).append(gate)
    fold = len(gates) > _MOST_UNFOLDED
    return [_group(name, lines, fold=fold) for name, lines in by_dimension.items() if lines]


def worst_of(gates: Sequence[GateLine]) -> GateLine | None:
    """Return the failed gate whose value is farthest beyond its bound; None if no value is."""
    missed = [gate for gate in gates if gate.tone == "bad" and gate.margin is not None and gate.margin < 0]
    return min(missed, key=_margin_of, default=None)


def _group(dimension: str, gates: Sequence[GateLine], *, fold: bool) -> GateGroup:
    ordered = sorted(gates, key=_order)
    shown = [gate for gate in ordered if not (fold and gate.is_settled)]
    folded = [gate for gate in ordered if fold and gate.is_settled]
    met = sum(gate.outcome == "passed" for gate in gates)
    return GateGroup(dimension, f"{met} of {len(gates)} met", [*map(_row, shown)], [*map(_row, folded)])


def _order(gate: GateLine) -> tuple[int, float]:
    """Return what sorts the gates of a dimension: those beyond their bounds, the farthest first, then the others."""
    if gate.outcome == "failed":
        rank = 1 if gate.uncovered else 0
    else:
        rank = {"no_data": 1, "inconclusive": 2, "passed": 3}.get(gate.outcome, 4)
    return rank, _margin_of(gate)


def _margin_of(gate: GateLine) -> float:
    return 0.0 if gate.margin is None else gate.margin


def _row(gate: GateLine) -> GateRow:
    margin = gate.margin
    # a margin that contradicts the outcome would only mislead: something else decided, which the reason tells
    if margin is not None and gate.outcome in ("passed", "failed") and (margin >= 0) != (gate.outcome == "passed"):
        margin = None
    return GateRow(
        gate=gate,
        name="trust score" if gate.metric == "score" else gate.metric or gate.id,
        word="no coverage" if gate.uncovered else gate.outcome.replace("_", " "),
        margin=margin,
        # a gate that failed is red already: what it would notice is a question only for one that is met
        sees=gate.sees if gate.outcome == "passed" else None,
        power=list(_power(gate)),
    )


def _power(gate: GateLine) -> Iterator[str]:
    """Yield what the verdict is worth: how likely it is another one by chance, and which loss the gate would notice."""
    if gate.another is not None:
        share = 100 * gate.another
        if share < 1:
            chance = "in fewer than 1 %"
        elif share > 99:
            chance = "in more than 99 %"
        else:
            chance = f"in about {share:.0f} %"
        yield f"Another run of the same model gets another verdict {chance} of cases."
    if gate.outcome == "passed" and gate.sees is not None:
        yield f"It turns red in 80 % of runs once the model has lost {number(gate.sees)}."
