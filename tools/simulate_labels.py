"""Draw runs whose judge errs, label a few responses of each, and count how often the corrected rate's interval holds.

Prints the table of docs/judges.md. Responses are drawn and rates corrected by the functions that `label` and
`judge-check` use. The same seed prints the same table.

    python tools/simulate_labels.py [--runs 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pytest_trustllm.results.label_draw import allocation
from pytest_trustllm.stats.agreement import WeightedPair, corrected_rate, weighted_agreement
from pytest_trustllm.stats.intervals import Limits
from pytest_trustllm.stats.means import Tally, effective_trials
from pytest_trustllm.stats.prediction_powered import Unit, powered_share

Random = np.random.Generator
Array = np.ndarray[Any, np.dtype[Any]]
RESPONSES = 1400
RATES = (0.1, 0.3, 0.5, 0.8, 0.95)
JUDGES = ((0.95, 0.90), (0.80, 0.95), (0.70, 0.70), (0.99, 0.98))
"""Sensitivity and specificity."""
LABELS = (50, 100, 300)
CLUSTERS = ((2, 0.3), (7, 0.3))
"""Size, and intraclass correlation of people's labels and of the judge's mistakes."""
CLUSTERED_RATES, CLUSTERED_LABELS = (0.1, 0.5, 0.8), 100


class Case(NamedTuple):
    """A cell of the grid."""

    rate: float
    sensitivity: float
    specificity: float
    labels: int
    size: int
    alike: float


class Drawn(NamedTuple):
    """A run: what people would say of each response, what the judge says, and its cluster."""

    people: Array
    judge: Array
    clusters: Array


def shares(random: Random, mean: float, alike: float, count: int) -> Array:
    """Draw true shares of clusters, with an intraclass correlation."""
    if alike == 0:
        return np.full(count, mean)
    rest = (1 - alike) / alike
    return random.beta(mean * rest, (1 - mean) * rest, count)


def drawn_run(random: Random, case: Case) -> Drawn:
    """Draw a run."""
    count = RESPONSES // case.size
    clusters = np.repeat(np.arange(count), case.size)
    people = random.random(len(clusters)) < shares(random, case.rate, case.alike, count)[clusters]
    misses = shares(random, 1 - case.sensitivity, case.alike, count)[clusters]
    alarms = shares(random, 1 - case.specificity, case.alike, count)[clusters]
    wrong = random.random(len(clusters)) < np.where(people, misses, alarms)
    return Drawn(people, people ^ wrong, clusters)


def labelled(random: Random, run: Drawn, labels: int) -> set[int]:
    """Draw responses to label, by verdict."""
    strata = [np.flatnonzero(run.judge == verdict) for verdict in (False, True)]
    strata = [stratum for stratum in strata if len(stratum)]
    counts = allocation([len(stratum) for stratum in strata], labels)
    chosen: set[int] = set()
    for stratum, count in zip(strata, counts, strict=True):
        chosen.update(random.choice(stratum, count, replace=False).tolist())
    return chosen


def by_labels(run: Drawn, chosen: set[int]) -> Limits | None:
    """Return the interval from labels on responses of the run."""
    units: list[Unit] = []
    for index, (people, judge, cluster) in enumerate(zip(*(part.tolist() for part in run), strict=True)):
        units.append(Unit(float(judge), float(people) if index in chosen else None, cluster))
    return powered_share(units, 0.95).ci


def by_rates(run: Drawn, chosen: set[int], later: Drawn) -> Limits | None:
    """Return the interval of a later run from labels on responses of this one."""
    sizes = {bool(verdict): int((run.judge == verdict).sum()) for verdict in (False, True)}
    drawn = {verdict: sum(bool(run.judge[index]) == verdict for index in chosen) for verdict in sizes}
    pairs: list[WeightedPair] = []
    for index in sorted(chosen):
        verdict = bool(run.judge[index])
        weight = sizes[verdict] / drawn[verdict]
        pairs.append(WeightedPair(str(bool(run.people[index])), str(verdict), weight, int(run.clusters[index])))
    agreed = weighted_agreement(pairs, ("True", "False"), "True")
    tally = Tally()
    for judge, cluster in zip(later.judge.tolist(), later.clusters.tolist(), strict=True):
        tally.add(cluster, float(judge), 1.0)
    trials = effective_trials(tally, 0.95)
    return corrected_rate(tally.mean, trials, agreed.sensitivity, agreed.specificity, 0.95).ci


class Counts(NamedTuple):
    """How often an interval held the true rate, and its mean width, for both methods."""

    labels: float
    labels_width: float
    rates: float
    rates_width: float


def counted(case: Case, runs: int, seed: int) -> Counts:
    """Simulate one cell."""
    random = np.random.default_rng(seed)
    hits, widths = [0, 0], [0.0, 0.0]
    for _ in range(runs):
        run = drawn_run(random, case)
        chosen = labelled(random, run, case.labels)
        found = by_labels(run, chosen), by_rates(run, chosen, drawn_run(random, case))
        for method, limits in enumerate(found):
            low, high = limits or (0.0, 1.0)  # without an interval nothing is excluded
            hits[method] += low <= case.rate <= high
            widths[method] += high - low
    return Counts(hits[0] / runs, widths[0] / runs, hits[1] / runs, widths[1] / runs)


def cases() -> Iterator[Case]:
    """Yield the grid."""
    for labels, judge, rate in itertools.product(LABELS, JUDGES, RATES):
        yield Case(rate, *judge, labels, 1, 0.0)
    for (size, alike), judge, rate in itertools.product(CLUSTERS, JUDGES, CLUSTERED_RATES):
        yield Case(rate, *judge, CLUSTERED_LABELS, size, alike)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("| rate | judge | labels | clusters of | same run: held | width | later run: held | width |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases():
        found = counted(case, args.runs, args.seed)
        judge = f"{case.sensitivity} / {case.specificity}"
        print(
            f"| {case.rate} | {judge} | {case.labels} | {case.size} | {found.labels:.1%} | {found.labels_width:.3f} "
            f"| {found.rates:.1%} | {found.rates_width:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
