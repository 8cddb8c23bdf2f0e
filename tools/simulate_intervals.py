"""Draw runs of models whose true numbers are known, and count how often the intervals and gates are right.

Prints the tables of docs/gates.md. Everything goes through the functions that a run uses: a line is a thousand
small runs. The same seed prints the same tables.

    python tools/simulate_intervals.py [--runs 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.comparison import compare
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.stats.agreement import corrected_rate, proportion
from pytest_trustllm.stats.means import Tally, mean_limits
from pytest_trustllm.stats.shares import share_limits
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation, Interval, Selection

Random = np.random.Generator
Record = dict[str, Any]
Drawn = tuple[list[Record], float]
"""Records of one run, and the true number."""
RATES = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
"""True rates of the grid of macro averages."""


def task(kind: str, average: str = "pooled", group: str | None = None, **parameters: Any) -> Task:
    """Return a task with one metric."""
    reading = Reading(Registry().metrics.get(kind)(**parameters), average, {})  # type: ignore[arg-type]
    groups = {} if group is None else {group: group}
    spec = MetricSpec("m", reading, reading, {})
    return Task("s", "d", "t", 1, "t", DataSpec(), None, None, Generation(), None, "none", (spec,), groups)


def record(i: int, value: float, cluster: object = None, group: str = "", **observed: Any) -> Record:
    """Return what a run keeps of one sample."""
    found: Record = {
        "task": "d/t", "id": f"{i:04d}", "fingerprint": f"{i}", "group": {"g": group} if group else {},
        "status": "passed", "value": value, "reason": None, "observed": observed, "parity": "same", "also": {},
    }  # fmt: skip
    return found if cluster is None else {**found, "cluster": f"{cluster}"}


def measured(of: Task, records: Sequence[Record], seed: int) -> RunNumbers:
    """Return the numbers of a run."""
    counts = {of.id: len(records)}
    return RunNumbers([of], observed_by_task(records), Selection(counts, counts), seed=seed)


def shares(random: Random, mean: float, alike: float, size: int) -> np.ndarray[Any, Any]:
    """Draw true rates of clusters, with an intraclass correlation."""
    if alike == 0:
        return np.full(size, mean)
    rest = (1 - alike) / alike
    return random.beta(mean * rest, (1 - mean) * rest, size)


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a table: how to draw a run, and its task.

    Attributes:
        method: For the table.
        name: For the table.
        task: With one metric.
        draw: Takes a generator.
        id: Of the number.
        more: Further tasks of the same dimension.
    """

    method: str
    name: str
    task: Task
    draw: Callable[[Random], Drawn]
    id: str = "d/t.m"
    more: tuple[Task, ...] = ()

    def coverage(self, runs: int, seed: int, confidence: float = 0.95) -> tuple[float, float]:
        """Return the share of runs whose interval holds the true number, and the mean width."""
        random = np.random.default_rng(seed)
        hits, widths = 0, 0.0
        for run in range(runs):
            records, true = self.draw(random)
            counts = Counter(r["task"] for r in records)
            tasks = [self.task, *self.more]
            run_of = RunNumbers(
                tasks, observed_by_task(records), Selection(counts, counts), confidence=confidence, seed=run
            )
            found = run_of.interval(self.id, confidence)
            if found is None:
                continue
            hits += found.low - 1e-12 <= true <= found.high + 1e-12
            widths += found.high - found.low
        return hits / runs, widths / runs


def rate(n: int, p: float) -> Case:
    """Independent samples."""

    def draw(random: Random) -> Drawn:
        return [record(i, float(v)) for i, v in enumerate(random.random(n) < p)], p

    return Case("Wilson", f"n = {n}, rate {p}", task("mean"), draw)


def counted(n: int, p: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return coverage and mean width for independent samples: every possible count, by its probability."""
    found = [share_limits(k, n, confidence) for k in range(n + 1)]
    chances = [_chance(n, k, p) for k in range(n + 1)]
    pairs = list(zip(found, chances, strict=True))
    covered = sum(c for (low, high), c in pairs if low <= p <= high)
    return covered, sum(c * (high - low) for (low, high), c in pairs)


def _chance(n: int, k: int, p: float) -> float:
    if p in (0, 1):
        return float(k == n * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log(1 - p))


def clustered(clusters: int, size: int, p: float, alike: float) -> Case:
    """Samples that share a source item, of one to 2 * size - 1 samples."""

    def draw(random: Random) -> Drawn:
        rates = shares(random, p, alike, clusters)
        sizes = random.integers(1, 2 * size, clusters)
        cells = [(c, v) for c in range(clusters) for v in random.random(sizes[c]) < rates[c]]
        return [record(i, float(v), f"c{c}") for i, (c, v) in enumerate(cells)], p

    name = f"{clusters} clusters of about {size}, rate {p}, ICC {alike}"
    return Case("Wilson, clustered", name, task("mean"), draw)


def epochs(n: int, tries: int, p: float, alike: float) -> Case:
    """Samples asked several times."""

    def draw(random: Random) -> Drawn:
        found = []
        for i, r in enumerate(shares(random, p, alike, n)):
            values = (random.random(tries) < r).astype(float)
            readings = [
                {"value": v, "met": bool(v), "answer": "", "reason": None, "observed": {}, "parity": "same"}
                for v in values
            ]
            found.append({**record(i, float(values.mean())), "epochs": readings})
        return found, p

    return Case("Wilson, epochs", f"n = {n}, {tries} epochs, rate {p}, ICC {alike}", task("mean"), draw)


def counted_macro(sizes: Sequence[int], confidence: float = 0.95) -> tuple[int, float, float]:
    """Return how often the limits of a macro average hold the truth at worst, over a grid of the groups' true rates.

    Every possible result of all groups is counted by its probability; nothing is drawn.

    Args:
        sizes: Samples per group.
        confidence: In (0, 1).

    Returns:
        Combinations of rates; the least coverage; the mean width over all combinations.
    """
    groups = [[_tally(g, k, n) for k in range(n + 1)] for g, n in enumerate(sizes)]
    found = [mean_limits(chosen, confidence) for chosen in itertools.product(*groups)]
    shape = [n + 1 for n in sizes]
    low, high = (np.array([f[0][side] for f in found if f is not None]).reshape(shape) for side in (0, 1))
    coverages, widths = [], []
    for rates in itertools.product(RATES, repeat=len(sizes)):
        chances = np.ones(())
        for n, p in zip(sizes, rates, strict=True):
            chances = np.multiply.outer(chances, [_chance(n, k, p) for k in range(n + 1)])
        true = math.fsum(rates) / len(rates)
        coverages.append(float((chances * ((low <= true + 1e-12) & (true - 1e-12 <= high))).sum()))
        widths.append(float((chances * (high - low)).sum()))
    return len(coverages), min(coverages), math.fsum(widths) / len(widths)


def _tally(group: int, successes: int, n: int) -> Tally:
    tally = Tally()
    for i in range(n):
        tally.add((group, i), float(i < successes), 1.0)
    return tally


def uneven(sizes: Sequence[int], rates: Sequence[float]) -> Case:
    """Mean of the rates of groups that have different numbers of samples."""

    def draw(random: Random) -> Drawn:
        values = [(g, v) for g, (n, p) in enumerate(zip(sizes, rates, strict=True)) for v in random.random(n) < p]
        return [record(i, float(v), None, f"g{g}") for i, (g, v) in enumerate(values)], float(np.mean(rates))

    times = Counter(sizes)
    groups = " and ".join(f"{n}" if count == 1 else f"{count} times {n}" for n, count in times.items())
    shown = " and ".join(map(str, dict.fromkeys(rates)))
    name = f"groups of {groups}, rate{'s' if len({*rates}) > 1 else ''} {shown}"
    return Case("macro average", name, task("mean", "macro", "g"), draw)


@dataclasses.dataclass(frozen=True)
class Corrected(Case):
    """A rate that a judge counted, corrected for its mistakes.

    Attributes:
        sensitivity: True one of the judge.
        specificity: Likewise.
        labels: Answers with and without what is counted that people labelled.
    """

    sensitivity: float = 0.9
    specificity: float = 0.85
    labels: tuple[int, int] = (200, 200)

    def coverage(self, runs: int, seed: int, confidence: float = 0.95) -> tuple[float, float]:
        """Return the share of runs whose corrected interval holds the true rate, and the mean width."""
        random = np.random.default_rng(seed)
        hits, widths = 0, 0.0
        for run in range(runs):
            records, true = self.draw(random)
            judged = measured(self.task, [self._judged(r, random) for r in records], run)
            metric_input = judged.metric_input(self.id)
            assert metric_input is not None
            rate, trials = metric_input.compute().value, metric_input.effective_trials(confidence)
            called, others = self.labels
            hit = proportion(int(random.binomial(called, self.sensitivity)), called, confidence)
            clear = proportion(int(random.binomial(others, self.specificity)), others, confidence)
            assert rate is not None
            found = corrected_rate(rate, trials, hit, clear, confidence).ci
            if found is not None:
                hits += found[0] <= true <= found[1]
                widths += found[1] - found[0]
        return hits / runs, widths / runs

    def _judged(self, sample: Record, random: Random) -> Record:
        seen = random.random() < (self.sensitivity if sample["value"] else 1 - self.specificity)
        return {**sample, "value": float(seen)}


def corrected(clusters: int, size: int, p: float, alike: float) -> Case:
    """A corrected rate of samples in clusters; of size 1: independent ones."""
    plain = clustered(clusters, size, p, alike) if size > 1 else rate(clusters, p)
    return Corrected("corrected for a judge (0.90, 0.85)", plain.name, plain.task, plain.draw)


def macro(n: int, rates: Sequence[float], alike: float = 0.0) -> Case:
    """Mean of groups' rates; with an ICC every cluster has one sample in every group."""
    groups = len(rates)

    def draw(random: Random) -> Drawn:
        rows = []
        for i in range(n):
            # a cluster's samples are alike because some of them share one draw
            u = (
                random.random(groups)
                if alike == 0
                else np.where(random.random(groups) < alike, random.random(), random.random(groups))
            )
            rows += [(i, g, float(u[g] < rates[g])) for g in range(groups)]
        return [record(k, v, None if alike == 0 else f"c{i}", f"g{g}") for k, (i, g, v) in enumerate(rows)], float(
            np.mean(rates)
        )

    name = f"{groups} groups of {n}, rates {min(rates)} to {max(rates)}"
    name += ", clusters across groups" if alike else ""
    return Case("macro average", name, task("mean", "macro", "g"), draw)


def numbers(n: int, a: float, b: float) -> Case:
    """Numbers in [0, 1], beta distributed."""

    def draw(random: Random) -> Drawn:
        return [record(i, float(v)) for i, v in enumerate(random.beta(a, b, n))], a / (a + b)

    return Case("mean of numbers", f"n = {n}, beta({a}, {b}), mean {a / (a + b):.2f}", task("mean"), draw)


def _f1(table: Mapping[tuple[str, str], float]) -> float:
    found = []
    for name in "ab":
        named = sum(p for (gold, _), p in table.items() if gold == name) + sum(
            p for (_, ans), p in table.items() if ans == name
        )
        found.append(2 * table[name, name] / named)
    return float(np.mean(found))


def f1(n: int, right: float, share: float = 0.5) -> Case:
    """Two classes."""
    cells = {
        ("a", "a"): share * right,
        ("a", "b"): share * (1 - right),
        ("b", "b"): (1 - share) * right,
        ("b", "a"): (1 - share) * (1 - right),
    }

    def draw(random: Random) -> Drawn:
        keys = list(cells)
        found = random.choice(len(keys), n, p=list(cells.values()))
        return [
            record(i, float(keys[k][0] == keys[k][1]), gold=keys[k][0], answer=keys[k][1]) for i, k in enumerate(found)
        ], _f1(cells)

    return Case(
        "bootstrap, macro F1",
        f"n = {n}, right {right}, first class {share}",
        task("macro_f1", classes=["a", "b"]),
        draw,
    )


def robustness(n: int, clean: float, lost: float) -> Case:
    """Robustness score."""
    gained = 0.2
    true = clean * (1 - lost) + (1 - clean) * gained - lost

    def draw(random: Random) -> Drawn:
        c = random.random(n) < clean
        a = np.where(c, random.random(n) >= lost, random.random(n) < gained)
        return [
            record(i, float(v), clean=float(w), attacked=float(v)) for i, (w, v) in enumerate(zip(c, a, strict=True))
        ], true

    return Case("bootstrap, robustness score", f"n = {n}, clean {clean}, lost {lost}", task("robustness_score"), draw)


def pearson(n: int, r: float) -> Case:
    """Answers on the five-step scale against numbers of people."""
    random = np.random.default_rng(0)

    def pairs(random: Random, n: int) -> tuple[Any, Any]:
        x = random.normal(0, 1, n)
        y = r * x + np.sqrt(1 - r * r) * random.normal(0, 1, n)
        return 50.0 * np.clip(np.round(1.3 * y), -2, 2), 40 * x

    ours, theirs = pairs(random, 2_000_000)
    true = float(np.corrcoef(ours, theirs)[0, 1])

    def draw(random: Random) -> Drawn:
        a, b = pairs(random, n)
        return [record(i, float(v), human=float(h)) for i, (v, h) in enumerate(zip(a, b, strict=True))], true

    return Case("Fisher's z, Pearson", f"n = {n}, r = {true:.2f}", task("pearson"), draw)


def p_value(n: int, shift: float) -> Case:
    """p-value of three answers over two values of an attribute; the true number is its median."""
    base = np.array([0.5, 0.3, 0.2])
    other = base + np.array([-shift, 0, shift])
    of = task("chi_square_p", attribute="sex")

    def sample(random: Random) -> list[Record]:
        found = []
        for i in range(n):
            found.append(record(i, float(random.choice(3, p=(base, other)[i % 2])), sex="fm"[i % 2]))
        return found

    random = np.random.default_rng(0)
    metric = of.metrics[0].value.metric
    typical = [metric.compute([{"value": r["value"], **r["observed"]} for r in sample(random)]) for _ in range(400)]
    true = float(np.median(typical))
    return Case(
        "noncentral chi-square, p-value",
        f"n = {n}, shift {shift}, median p {true:.3f}",
        of,
        lambda random: (sample(random), true),
    )


@dataclasses.dataclass(frozen=True)
class Plain:
    """A user's metric of which only the code is known: a mean."""

    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)

    def compute(self, observations: Sequence[Mapping[str, Any]]) -> float | None:
        """Return the mean."""
        return sum(o["value"] for o in observations) / len(observations) if observations else None


def own(n: int, p: float) -> Case:
    """A user's metric."""
    reading = Reading(Plain(), "pooled", {})
    of = dataclasses.replace(task("mean"), metrics=(MetricSpec("m", reading, reading, {}),))
    return dataclasses.replace(rate(n, p), method="jackknife, user's metric", task=of)


def score(n: int, rates: Sequence[float]) -> Case:
    """Trust score of a dimension with a task per rate."""
    tasks = [dataclasses.replace(task("mean"), name=f"t{k}") for k in range(len(rates))]

    def draw(random: Random) -> Drawn:
        found = []
        for k, p in enumerate(rates):
            found += [{**record(i, float(v)), "task": f"d/t{k}"} for i, v in enumerate(random.random(n) < p)]
        return found, float(np.mean(rates))

    name = f"{len(rates)} tasks of {n}, rates {min(rates)} to {max(rates)}"
    return Case("square-and-add, trust score", name, tasks[0], draw, "d/score", tuple(tasks[1:]))


def cases() -> Iterator[Case]:
    """Yield the lines of the first table."""
    for clusters, size in ((8, 3), (20, 7), (50, 12), (100, 14), (650, 2)):
        for p in (0.02, 0.5, 0.9):
            for alike in (0.0, 0.2, 0.5):
                yield clustered(clusters, size, p, alike)
    for n, tries in ((8, 5), (50, 5), (400, 3)):
        for p in (0.1, 0.5):
            yield epochs(n, tries, p, 0.5)
    for n in (8, 50, 100):
        yield macro(n, (0.5, 0.6, 0.7, 0.8))
        yield macro(n, (0.9, 0.95, 0.98, 0.99))
    for n in (8, 50):
        yield macro(n, (0.4, 0.5, 0.5, 0.6), 0.7)
    for p in (0.05, 0.5):
        yield uneven((4,) * 10, (p,) * 10)
        yield uneven((3,) + (100,) * 6, (p,) * 7)
    yield uneven((3, 30, 300), (0.0, 0.5, 1.0))
    for clusters, size, alike in ((400, 1, 0.0), (60, 1, 0.0), (100, 4, 0.5), (20, 7, 0.5), (650, 2, 0.5)):
        for p in (0.1, 0.5):
            yield corrected(clusters, size, p, alike)
    for n in (8, 50, 400):
        for a, b in ((2, 8), (9, 1), (0.5, 2)):
            yield numbers(n, a, b)
    for n in (8, 30, 100, 400):
        for right in (0.6, 0.95):
            yield f1(n, right)
    yield f1(100, 0.8, 0.1)
    for n in (8, 30, 100, 400):
        yield robustness(n, 0.8, 0.3)
        yield robustness(n, 0.95, 0.05)
    for n in (8, 30, 200):
        for r in (0.0, 0.5, 0.9):
            yield pearson(n, r)
    for n in (100, 810):
        for shift in (0.0, 0.05, 0.1):
            yield p_value(n, shift)
    for n in (8, 100):
        yield score(n, (0.5, 0.7, 0.8, 0.9))
    for n in (8, 100, 400):
        for p in (0.1, 0.5):
            yield own(n, p)


@dataclasses.dataclass(frozen=True)
class Change:
    """One line of the second table: a baseline and a run of the same samples.

    Attributes:
        name: For the table.
        task: With one metric.
        margin: ``max_drop``.
        drop: True loss.
        draw: Takes a generator; records of both runs.
    """

    name: str
    task: Task
    margin: float
    drop: float
    draw: Callable[[Random], tuple[list[Record], list[Record]]]

    def outcomes(self, runs: int, seed: int) -> dict[str, float]:
        """Return how often the gate passes, fails and is inconclusive, and how often the interval holds the truth."""
        random = np.random.default_rng(seed)
        found = dict.fromkeys(("passed", "failed", "inconclusive", "held"), 0)
        for run in range(runs):
            old, new = (measured(self.task, r, run) for r in self.draw(random))
            comparison = compare(old, new, "d/t.m", margin=self.margin)
            assert comparison is not None
            found[comparison.outcome] += 1
            within: Interval | None = comparison.interval
            found["held"] += within is not None and within.low <= -self.drop <= within.high
        return {k: v / runs for k, v in found.items()}


def change(n: int, p: float, flips: float, drop: float, margin: float, size: int = 1, groups: int = 1) -> Change:
    """Both runs answer alike but for a share ``flips`` of the samples, of which more are lost if there is a drop.

    Args:
        n: Samples.
        p: Rate of the baseline.
        flips: Share of samples that change.
        drop: True loss of the rate.
        margin: Accepted loss.
        size: Samples per cluster, which flip together.
        groups: Groups of a macro average.
    """
    down, up = (flips + drop) / 2, (flips - drop) / 2

    def draw(random: Random) -> tuple[list[Record], list[Record]]:
        count = n // size
        old = np.repeat(random.random(count) < p, size)
        u = np.repeat(random.random(count), size)
        new = np.where(old, u >= down / p, u < up / (1 - p))
        both = []
        for values in (old, new):
            both.append(
                [
                    record(i, float(v), f"c{i // size}" if size > 1 else None, f"g{i % groups}" if groups > 1 else "")
                    for i, v in enumerate(values)
                ]
            )
        return both[0], both[1]

    of = task("mean", "macro", "g") if groups > 1 else task("mean")
    name = f"n = {n}" + (f", clusters of {size}" if size > 1 else "") + (f", {groups} groups" if groups > 1 else "")
    return Change(f"{name}, {flips:.0%} of the answers change", of, margin, drop, draw)


def changes() -> Iterator[Change]:
    """Yield the lines of the second table."""
    for margin, flips in ((0.02, 0.04), (0.02, 0.06), (0.02, 0.10), (0.05, 0.10), (0.05, 0.30)):
        for drop in (0.0, 2 * margin):
            yield change(400, 0.8, flips, drop, margin)
    for drop in (0.0, 0.04):
        yield change(1400, 0.8, 0.10, drop, 0.02)
    for drop in (0.0, 0.10):
        yield change(400, 0.8, 0.10, drop, 0.05, groups=4)
        yield change(400, 0.8, 0.10, drop, 0.05, size=4)
        yield change(30, 0.8, 0.10, drop, 0.05)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="How often intervals hold the true number, and gates are right.")
    parser.add_argument("--runs", type=int, default=1000, help="runs per line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="lines whose method or name has this text")
    options = parser.parse_args()
    print("| method | runs | holds the true number | mean width |\n|---|---|--:|--:|")
    for n in (8, 30, 100, 400, 1400):
        for p in (0.02, 0.1, 0.5, 0.9, 0.98):
            covered, width = counted(n, p)
            print(f"| Wilson | n = {n}, rate {p} (counted, not drawn) | {covered:.1%} | {width:.3f} |")
    for sizes in ((3, 300), (1, 300), (5, 50), (8, 8), (3, 3, 3), (5, 5, 50), (5, 5, 500)):
        name = f"groups of {' and '.join(map(str, sizes))}"
        if options.only in f"macro average {name}":
            grid, covered, width = counted_macro(sizes)
            name += f", worst of {grid} combinations of rates (counted, not drawn)"
            print(f"| macro average | {name} | {covered:.1%} | {width:.3f} |", flush=True)
    for case in cases():
        if options.only in f"{case.method} {case.name}":
            covered, width = case.coverage(options.runs, options.seed)
            print(f"| {case.method} | {case.name} | {covered:.1%} | {width:.3f} |", flush=True)
    print("\n| runs | margin | true drop | passed | inconclusive | failed | interval holds it |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for line in changes():
        if options.only in line.name:
            found = line.outcomes(options.runs, options.seed)
            shown = " | ".join(f"{found[k]:.1%}" for k in ("passed", "inconclusive", "failed", "held"))
            print(f"| {line.name} | {line.margin} | {line.drop:g} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
