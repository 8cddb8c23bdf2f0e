"""Two runs of a metric, sample by sample."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_trustllm import paired, uncertainty
from pytest_trustllm.evidence import Evidence, Row, Scoring, interval, values_of
from pytest_trustllm.metrics.base import Averaged, Tabled
from pytest_trustllm.paired import Difference
from pytest_trustllm.records import Interval
from pytest_trustllm.results import Measurement

if TYPE_CHECKING:
    from pytest_trustllm.uncertainty import Array

ROUNDING = 1e-12
"""0.8 - 0.7 is a little more than 0.1."""
Outcome = Literal["passed", "failed", "inconclusive", "no_data"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric in two runs, over the samples that both have.

    Attributes:
        id: Of the metric, or ``dimension/score``.
        old: Over the shared samples; None if there is none.
        new: Likewise.
        difference: New minus old.
        interval: Of the difference, two-sided.
        worse_by: How much the metric got worse, in its own direction; negative if it got better.
        p_worse: One-sided p-value of "no worse than before".
        p_margin: One-sided p-value of "worse by no more than the margin".
        test: How ``p_worse`` was found.
        margin: Loss that is accepted.
        confidence: Of interval and verdict.
        shared: Samples with a score in both runs.
        unscored: Samples of both runs without a score in one of them.
        changed: Ids of both runs whose sample is another one now.
        added: Ids of the new run alone.
        removed: Ids of the old run alone.
        lost: Ids of samples that were right and are wrong now; empty for metrics of other numbers than 0 and 1.
        won: The other way round.
    """

    id: str
    old: float | None
    new: float | None
    difference: float | None
    interval: Interval | None
    worse_by: float | None
    p_worse: float | None
    p_margin: float | None
    test: str | None
    margin: float
    confidence: float
    shared: int
    unscored: int
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What a gate on the greatest accepted drop says.

        It passes if the loss is within the margin. A greater loss fails if chance does not explain it, that is if an
        equal model would lose so much in less than 1 - confidence of the runs, and is inconclusive if chance may.
        """
        if self.worse_by is None:
            return "no_data"
        if self.worse_by <= self.margin + ROUNDING:
            return "passed"
        if self.p_worse is None:
            return "inconclusive"
        return "failed" if self.p_worse <= 1 - self.confidence else "inconclusive"

    @property
    def further(self) -> int | None:
        """About how many more samples would decide an inconclusive verdict; None if there is no telling."""
        if self.difference is None or self.interval is None:
            return None
        limits = self.interval.low, self.interval.high
        return uncertainty.further_samples(self.difference, 0.0, limits, self.shared)


def compare(
    old: Measurement,
    new: Measurement,
    id_: str,
    *,
    margin: float = 0.0,
    confidence: float = uncertainty.CONFIDENCE,
    scoring: Scoring = "value",
) -> Comparison | None:
    """Compare a metric, or a trust score, in two runs; None if one of them does not have it.

    Args:
        old: The baseline.
        new: The run.
        id_: Of the metric, or ``dimension/score``.
        margin: Loss that is accepted, at least 0.
        confidence: In (0, 1).
        scoring: Which reading.
    """
    if id_.endswith("/score"):
        return _scores(old, new, id_, margin, confidence)
    before, after = old.evidence(id_), new.evidence(id_)
    if before is None or after is None:
        return None
    return _compare(before, after, margin, confidence, scoring)


def _compare(old: Evidence, new: Evidence, margin: float, confidence: float, scoring: Scoring) -> Comparison:
    before, after = (_numbered(e.rows) for e in (old, new))
    both = [f for f in after if f in before]
    usable = [f for f in both if _usable(before[f], scoring) and _usable(after[f], scoring)]
    ids_before, ids_after = ({r.id for r in e.rows} for e in (old, new))
    changed = {r.id for f, r in after.items() if f not in before and r.id in ids_before}
    old = dataclasses.replace(old, rows=[before[f] for f in usable])
    new = dataclasses.replace(new, rows=[after[f] for f in usable])
    found = Comparison(
        id=new.id,
        old=old.number(scoring)[0] if usable else None,
        new=new.number(scoring)[0] if usable else None,
        difference=None,
        interval=None,
        worse_by=None,
        p_worse=None,
        p_margin=None,
        test=None,
        margin=margin,
        confidence=confidence,
        shared=len(usable),
        unscored=sum(before[f].applies and after[f].applies for f in both) - len(usable),
        changed=tuple(sorted(changed)),
        added=tuple(sorted(ids_after - ids_before)),
        removed=tuple(sorted(ids_before - ids_after)),
    )
    if found.old is None or found.new is None:
        return found
    sign = 1 if new.spec.higher_is_better else -1
    lost, won = _flips(old, new, scoring, sign)
    value = found.new - found.old
    estimate = _difference(old, new, value, sign, margin, confidence, scoring)
    return dataclasses.replace(
        found,
        difference=value,
        worse_by=-sign * value,
        lost=lost,
        won=won,
        **({} if estimate is None else _fields(value, estimate, new, confidence)),
    )


def _numbered(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    """Return rows by fingerprint and its first, second ... occurrence, because equal rows of the data have the same."""
    seen: dict[str, int] = {}
    found = {}
    for row in rows:
        if not row.fingerprint:
            continue
        seen[row.fingerprint] = seen.get(row.fingerprint, 0) + 1
        found[row.fingerprint, seen[row.fingerprint]] = row
    return found


def _fields(value: float, found: Difference, evidence: Evidence, confidence: float) -> dict[str, Any]:
    low, high = evidence.spec.range
    return {
        "interval": interval(value, (found.limits, found.method), (low - high, high - low), confidence),
        "p_worse": found.p_worse,
        "p_margin": found.p_margin,
        "test": found.test,
    }


def _usable(row: Row, scoring: Scoring) -> bool:
    return row.scored if scoring == "value" else bool(row.parity)


def _numbers(row: Row, metric: object, scoring: Scoring) -> list[float]:
    """Return what the metric counts of a sample, per epoch; nothing if it does not count it."""
    observations = row.observations(scoring)
    if isinstance(metric, Averaged):
        return [number / weight for number, weight in metric.terms(observations) if weight]
    return [float(o["value"]) for o in observations]


def _flips(old: Evidence, new: Evidence, scoring: Scoring, sign: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    metric = (new.spec.value if scoring == "value" else new.spec.parity).metric
    lost: list[str] = []
    won: list[str] = []
    for before, after in zip(old.rows, new.rows, strict=True):
        a, b = _numbers(before, metric, scoring), _numbers(after, metric, scoring)
        if not {*a, *b} <= {0.0, 1.0}:
            return (), ()
        if a and b:
            was, is_ = sum(a) / len(a) > 0.5, sum(b) / len(b) > 0.5
            if was != is_:
                (won if is_ == (sign > 0) else lost).append(after.id)
    return tuple(sorted(lost)), tuple(sorted(won))


def _difference(
    old: Evidence, new: Evidence, value: float, sign: int, margin: float, confidence: float, scoring: Scoring
) -> Difference | None:
    reading = new.spec.value if scoring == "value" else new.spec.parity
    metric = reading.metric
    macro = reading.average == "macro" and new.by is not None
    groups: Sequence[str | None] = values_of(new.rows, new.by or "") if macro else [None]
    random = uncertainty.generator(new.seed, f"{new.id}/{scoring}/difference")
    method = f"paired Bayesian bootstrap by cluster, {uncertainty.DRAWS} draws"
    clusters = len({r.cluster for r in new.rows})
    clusters = max(clusters - len(groups) + 1, min(clusters, 2))
    if isinstance(metric, Averaged):
        cells, binary, lone = _cells(old, new, metric, groups, scoring)
        if lone and binary and not macro:
            pairs = [(a, b) for mine in cells.values() for a, _, b, _ in mine.values()]
            down, up = sum(a > b for a, b in pairs), sum(b > a for a, b in pairs)
            lost, won = (down, up) if sign > 0 else (up, down)
            found = paired.rate_difference(lost, won, len(pairs), margin, confidence)
            low, high = found.limits
            return found if sign > 0 else dataclasses.replace(found, limits=(-high, -low))
        draws = paired.paired_draws(cells, len(groups), binary=binary, random=random)
        drawn = paired.drawn_difference(draws, value, clusters, sign, margin, confidence, method)
        chance = paired.sign_flips(cells, len(groups), sign, random)
        test = f"sign-flip test by cluster, {paired.FLIPS} draws"
        return None if drawn is None else dataclasses.replace(drawn, p_worse=chance, test=test)
    if isinstance(metric, Tabled):
        draws = _tabled(old, new, metric, groups, scoring, random)
        return paired.drawn_difference(draws, value, clusters, sign, margin, confidence, method)
    return _jackknife(old, new, value, sign, margin, confidence, scoring)


def _cells(
    old: Evidence, new: Evidence, metric: Averaged, groups: Sequence[str | None], scoring: Scoring
) -> tuple[paired.PairedSums, bool, bool]:
    """Return sums by cluster and group, whether all is 0 or 1, and whether samples stand alone with one weight each.

    A sample weighs the same in both runs, however often each asked it.
    """
    epochs = [max([1, *(len(row.observations(scoring)) for row in e.rows)]) for e in (old, new)]
    at = {group: i for i, group in enumerate(groups)}
    cells: dict[Hashable, dict[int, tuple[float, float, float, float]]] = {}
    binary = lone = True
    for before, after in zip(old.rows, new.rows, strict=True):
        group = at.get(after.group.get(new.by or "") if len(groups) > 1 or None not in at else None)
        if group is None:
            continue
        sums = []
        for row, times in zip((before, after), epochs, strict=True):
            terms = metric.terms(row.observations(scoring))
            binary = binary and all(w in (0, 1) and n in (0, w) for n, w in terms)
            lone = lone and [w for _, w in terms] == [1]
            sums += [math.fsum(n for n, _ in terms) / times, math.fsum(w for _, w in terms) / times]
        mine = cells.setdefault(after.cluster, {})
        lone = lone and not mine
        a, b, c, d = mine.get(group, (0.0, 0.0, 0.0, 0.0))
        mine[group] = a + sums[0], b + sums[1], c + sums[2], d + sums[3]
    return cells, binary, lone


def _tabled(
    old: Evidence, new: Evidence, metric: Tabled, groups: Sequence[str | None], scoring: Scoring, random: object
) -> Array:
    """Draw both runs' numbers with the same weights of the clusters."""
    weights = uncertainty.weights_of([r.cluster for r in new.rows], random)
    both = []
    for evidence in (old, new):
        total = None
        for group in groups:
            rows = [r for r in evidence.rows if group is None or r.group.get(evidence.by or "") == group]
            pairs = [(o, r.cluster) for r in rows for o in r.observations(scoring)]
            outcomes, clusters = metric.outcomes([o for o, _ in pairs]), [c for _, c in pairs]
            drawn = uncertainty.draws_of(outcomes, clusters, metric.prior, metric.of_shares, weights, random)
            total = drawn if total is None else total + drawn
        assert total is not None  # noqa: S101 - there is at least one group
        both.append(total / len(groups))
    found: Array = both[1] - both[0]
    return found


def _jackknife(
    old: Evidence, new: Evidence, value: float, sign: int, margin: float, confidence: float, scoring: Scoring
) -> Difference | None:
    def without(left_out: frozenset[Hashable]) -> float | None:
        numbers = [
            dataclasses.replace(
                e, rows=[r for r, mine in zip(e.rows, new.rows, strict=True) if mine.cluster not in left_out]
            ).number(scoring)[0]
            for e in (old, new)
        ]
        return None if numbers[0] is None or numbers[1] is None else numbers[1] - numbers[0]

    span = (-math.inf, math.inf)
    found = uncertainty.jackknife([r.cluster for r in new.rows], without, value, span, confidence)
    if found is None:
        return None
    (low, high), method = found
    error = (high - low) / 2 / uncertainty.z(confidence)
    worse, beyond = (uncertainty.upper_tail(-sign * value - m, error) for m in (0.0, margin))
    return Difference((low, high), method, worse, beyond, method)


def _scores(old: Measurement, new: Measurement, id_: str, margin: float, confidence: float) -> Comparison | None:
    """Compare trust scores over the headline metrics that have a value in both runs."""
    dimension = id_.removesuffix("/score")
    before, after = old.scores.get(dimension), new.scores.get(dimension)
    if before is None or after is None:
        return None
    found = [c for m in after.of if (c := compare(old, new, m, margin=0.0, confidence=confidence)) is not None]
    found = [c for c in found if c.worse_by is not None]
    numbers = [(new.metrics[c.id].higher_is_better, c) for c in found]
    olds = [_turned(higher, c.old) for higher, c in numbers]
    news = [_turned(higher, c.new) for higher, c in numbers]
    empty = Comparison(id_, None, None, None, None, None, None, None, None, margin, confidence, 0, 0)
    if not found:
        return empty
    was, is_ = math.fsum(olds) / len(olds), math.fsum(news) / len(news)
    value = is_ - was
    whole = dataclasses.replace(
        empty, old=was, new=is_, difference=value, worse_by=-value, shared=sum(c.shared for c in found)
    )
    parts: list[tuple[Hashable, float, uncertainty.Limits]] = []
    for (higher, c), a, b in zip(numbers, olds, news, strict=True):
        if c.interval is None:
            return whole
        low, high = (c.interval.low, c.interval.high) if higher else (-c.interval.high, -c.interval.low)
        parts.append((new.asked(c.id), b - a, (min(low, b - a), max(high, b - a))))
    low, high = uncertainty.mean_of(parts)
    method = "square-and-add of the headline metrics' paired intervals (Zou et al. 2009)"
    # the upper limit of a loss is the lower one of a difference
    error = (value - low if value > 0 else high - value) / uncertainty.z(confidence)
    worse, beyond = (uncertainty.upper_tail(-value - m, error) for m in (0.0, margin))
    return dataclasses.replace(
        whole,
        interval=interval(value, ((low, high), method), (-1.0, 1.0), confidence),
        p_worse=worse,
        p_margin=beyond,
        test=method,
    )


def _turned(higher: bool, number: float | None) -> float:
    assert number is not None  # noqa: S101 - compared ones have a number
    return min(1.0, max(0.0, number if higher else 1.0 - number))
