"""Draw runs whose every answer is known, stop them as gates do, and count wrong verdicts and asked samples.

Prints the tables of docs/gates.md. Everything goes through the functions that a run uses. The same seed prints the same
tables.

    python tools/simulate_stopping.py [--runs 100] [--seed 1]
    python tools/simulate_stopping.py --picture docs/images/sequence.svg
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from pytest_trustllm.config.paths import shipped
from pytest_trustllm.gates.deciding import Decision, SourcePlan
from pytest_trustllm.gates.dropping import EarlierSample
from pytest_trustllm.gates.family import deciders_of
from pytest_trustllm.gates.planned import PlannedSample, Unit
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.gates.verdict import Gate, Policy
from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry
from pytest_trustllm.stats.shares import wilson
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation

SIZES = (30, 100, 300, 1000, 2000)
BOUNDS = (0.2, 0.5, 0.8, 0.95)
DISTANCES = (-0.2, -0.05, -0.01, 0.01, 0.05, 0.2)
"""From the bound to the true rate."""
CLUSTERS = (1, 5)
HELPED = (
    (300, 0.02, 1),
    (300, 0.05, 1),
    (1400, 0.02, 1),
    (1400, 0.05, 1),
    (1400, 0.1, 1),
    (1400, 0.3, 1),
    (1400, 0.05, 5),
)
"""Samples, share of answers that changed since the baseline, and size of clusters."""
HELPED_RATES = (0.7, 0.75, 0.79, 0.81, 0.85, 0.9)
PUBLISHED = {
    "ethics/emotional_awareness.accuracy": 200,
    "ethics/moralchoice_low.accuracy": 687,
    "ethics/moralchoice_high.refusal_rate": 680,
    "fairness/stereotype_recognition.accuracy": 1000,
    "fairness/stereotype_agreement.agreement_rate": 1000,
    "fairness/stereotype_query.refusal_rate": 95,
    "robustness/ood_detection.refusal_rate": 241,
    "safety/jailbreak.refusal_rate": 1400,
    "safety/exaggerated_safety.refusal_rate": 200,
    "safety/misuse.refusal_rate": 1174,
    "truthfulness/sycophancy_preference.change_rate": 120,
    "truthfulness/adversarial_factuality.corrected_rate": 209,
    "privacy/privacy_awareness.refusal_rate_normal": 280,
    "privacy/privacy_awareness.refusal_rate_augmented": 280,
}
"""Shipped gates on a rate over all samples of a task, and how many samples that is."""


@dataclass(frozen=True)
class Drawn:
    """A run whose answers are all known.

    Attributes:
        units: In the order in which they are asked.
        right: Id of a sample -> its answer is right.
    """

    units: Sequence[Unit]
    right: dict[str, bool]

    @property
    def rate(self) -> float:
        """Share of right answers."""
        return sum(self.right.values()) / len(self.right)


@dataclass(frozen=True)
class Stopped:
    """What became of a run.

    Attributes:
        decision: None: all samples were asked.
        asked: Number of samples.
        differs: The verdict is not the one of all answers.
        holds: The limits hold the rate of all answers; None without limits.
    """

    decision: Decision | None
    asked: int
    differs: bool
    holds: bool | None


def task(name: str = "d/t") -> Task:
    """Return a task with one rate."""
    reading = Reading(Registry().metrics.get("accuracy")(), "pooled", {})
    spec = MetricSpec("m", reading, reading, {})
    dimension, _, short = name.partition("/")
    return Task("s", dimension, short, 1, "t", DataSpec(), None, None, Generation(), None, "none", (spec,), {})


def gate(bound: float, kind: str = "at_least", *, min_scored: float = 0.95, name: str = "d/t") -> Gate:
    """Return a gate on that rate."""
    dimension, _, short = name.partition("/")
    policy = Policy(min_scored=min_scored)
    return Gate("f", dimension, f"{short}.m", kind, bound, "value", True, (name,), policy=policy)  # type: ignore[arg-type]


def draw(size: int, right: int, cluster: int, rng: random.Random) -> Drawn:
    """Return a run of ``size`` samples, so many of them right; the answers within a cluster are mostly alike."""
    answers = [True] * right + [False] * (size - right)
    if cluster == 1:
        rng.shuffle(answers)
    else:
        noisy = [(answer + rng.gauss(0, 0.7), answer) for answer in answers]
        answers = [answer for _, answer in sorted(noisy)]
    members: dict[int, list[PlannedSample]] = {}
    for number in range(size):
        sample = PlannedSample(str(number), {}, str(number // cluster), str(number))
        members.setdefault(number // cluster, []).append(sample)
    units = [tuple(unit) for unit in members.values()]
    rng.shuffle(units)
    return Drawn(units, {str(number): answer for number, answer in enumerate(answers)})


def record(id_: str, right: bool, name: str) -> Any:
    """Return what a run keeps of one sample."""
    return {
        "task": name, "id": id_, "fingerprint": id_, "group": {}, "status": "passed", "answer": None,
        "value": float(right), "reason": None, "observed": {}, "parity": "same", "also": {},
    }  # fmt: skip


def baseline_of(drawn: Drawn, flips: float, rng: random.Random) -> list[EarlierSample]:
    """Return the answers of an earlier run, of which such a share was another: half of them right, half wrong."""
    earlier = dict(drawn.right)
    for before in (True, False):
        members = sorted(id_ for id_, right in drawn.right.items() if right == before)
        for id_ in rng.sample(members, min(len(members), round(flips / 2 * len(earlier)))):
            earlier[id_] = not before
    return [EarlierSample(id_, id_, float(right)) for id_, right in earlier.items()]


def stop(
    runs: dict[str, Drawn],
    gates: dict[str, Gate],
    rule: Stop,
    baselines: Mapping[str, Sequence[EarlierSample]] = MappingProxyType({}),
) -> dict[str, Stopped]:
    """Return what becomes of the runs of several tasks with a gate each, as one family.

    Args:
        runs: Task -> its run.
        gates: Task -> its gate.
        rule: When to stop.
        baselines: Task -> answers of an earlier run.
    """
    plans = {name: SourcePlan(drawn.units, {name: task(name)}) for name, drawn in runs.items()}
    before = {gates[name].id: samples for name, samples in baselines.items()}
    deciders = deciders_of({name: (gates[name], rule) for name in runs}, plans, 1, before=before)
    stopped: dict[str, Stopped] = {}
    for name, drawn in runs.items():
        asked = 0
        for unit in drawn.units:
            if not deciders.needed(name):
                break
            deciders.take(name, unit, [record(sample.id, drawn.right[sample.id], name) for sample in unit])
            asked += len(unit)
        stopped[name] = _outcome(gates[name], drawn, deciders.deciders[name].decision, asked)
    return stopped


def _outcome(of: Gate, drawn: Drawn, decision: Decision | None, asked: int) -> Stopped:
    if decision is None:
        return Stopped(None, asked, False, None)
    met = drawn.rate >= of.bound if of.kind == "at_least" else drawn.rate <= of.bound
    holds = None
    if decision.limits is not None:
        holds = decision.limits.low - 1e-9 <= drawn.rate <= decision.limits.high + 1e-9
    return Stopped(decision, asked, decision.outcome != ("passed" if met else "failed"), holds)


def shipped_bounds() -> dict[str, tuple[str, float]]:
    """Return metric -> kind and bound of its shipped gate."""
    bounds: dict[str, tuple[str, float]] = {}
    for path in sorted(shipped("thresholds").glob("*.yaml")):
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in file["gates"]:
            for kind in ("at_least", "at_most"):
                if kind in entry:
                    bounds[f"{file['dimension']}/{entry['metric']}"] = kind, float(entry[kind])
    return bounds


def published(rule: Stop, rng: random.Random, *, min_scored: float = 0.95) -> list[tuple[int, Stopped]]:
    """Return size and outcome of every published score with a shipped gate; the gates of a model are one family."""
    bounds = shipped_bounds()
    outcomes: list[tuple[int, Stopped]] = []
    for scores in catalogue.published_scores().scores.values():
        runs: dict[str, Drawn] = {}
        gates: dict[str, Gate] = {}
        for metric, size in PUBLISHED.items():
            score = scores.get(metric)
            if score is None:
                continue
            name = metric.replace(".", "_")
            kind, bound = bounds[metric]
            runs[name] = draw(size, round(score * size), 1, rng)
            gates[name] = gate(bound, kind, min_scored=min_scored, name=name)
        for name, stopped in stop(runs, gates, rule).items():
            outcomes.append((len(runs[name].right), stopped))
    return outcomes


def share_asked(outcomes: Sequence[tuple[int, Stopped]]) -> float:
    """Return the share of all answers that were asked."""
    return sum(stopped.asked for _, stopped in outcomes) / sum(size for size, _ in outcomes)


def grid() -> Iterator[tuple[int, float, float, int]]:
    """Yield size, bound, rate and cluster size of every cell."""
    for size in SIZES:
        for bound in BOUNDS:
            for distance in DISTANCES:
                for cluster in CLUSTERS:
                    if 0 <= bound + distance <= 1:
                        yield size, bound, bound + distance, cluster


def cell(size: int, bound: float, rate: float, cluster: int, rule: Stop, runs: int, seed: int) -> list[Stopped]:
    """Return the outcomes of many runs of one cell; the gate is alone, so that all of alpha is its own."""
    rng = random.Random(f"{seed}/{size}/{bound}/{rate}/{cluster}")
    outcomes: list[Stopped] = []
    for _ in range(runs):
        drawn = draw(size, round(rate * size), cluster, rng)
        outcomes.append(stop({"d/t": drawn}, {"d/t": gate(bound)}, rule)["d/t"])
    return outcomes


def wilson_again_and_again(size: int, rate: float, bound: float, *, looks: bool, rng: random.Random) -> bool:
    """Return whether a model passes whose Wilson interval is looked at after every answer, or once at the end."""
    right = 0
    for count in range(1, size + 1):
        right += rng.random() < rate
        if (looks and count >= 30) or count == size:
            low, _ = wilson(right / count, count, 1.96)
            if low >= bound:
                return True
    return False


def print_published(seed: int) -> None:
    """Print what the gates on published scores need."""
    rules: tuple[Stop, ...] = ("exact", 0.05, 0.01)
    print("| rule | coverage.min_scored | answers asked | verdicts that differ |\n|---|--:|--:|--:|")
    for rule in rules:
        for min_scored in (0.95, 0.0):
            outcomes = published(rule, random.Random(seed), min_scored=min_scored)
            wrong = sum(stopped.differs for _, stopped in outcomes)
            asked = share_asked(outcomes)
            print(f"| {rule} | {min_scored} | {asked:.1%} | {wrong} of {len(outcomes)} |", flush=True)


def print_grid(runs: int, seed: int) -> None:
    """Print how often verdicts differ, and limits hold, over the grid."""
    rows: dict[tuple[int, int], list[list[Stopped]]] = {}
    for size, bound, rate, cluster in grid():
        outcomes = cell(size, bound, rate, cluster, 0.05, runs, seed)
        rows.setdefault((size, cluster), []).append(outcomes)
    print("\n| samples | in clusters of | answers asked | differ, mean | differ, worst cell | limits hold |")
    print("|--:|--:|--:|--:|--:|--:|")
    for (size, cluster), cells in rows.items():
        shares = [sum(stopped.differs for stopped in outcomes) / len(outcomes) for outcomes in cells]
        every = [stopped for outcomes in cells for stopped in outcomes]
        held = [stopped.holds for stopped in every if stopped.holds is not None]
        asked = sum(stopped.asked for stopped in every) / len(every) / size
        mean = sum(shares) / len(shares)
        share_held = sum(held) / max(1, len(held))
        print(f"| {size} | {cluster} | {asked:.1%} | {mean:.2%} | {max(shares):.1%} | {share_held:.1%} |", flush=True)


def helped_cell(
    size: int, bound: float, rate: float, cluster: int, flips: float, runs: int, seed: int
) -> list[Stopped]:
    """Return the outcomes of the same runs as :func:`cell`, with a baseline, at alpha 0.05."""
    rng = random.Random(f"{seed}/{size}/{bound}/{rate}/{cluster}")
    outcomes: list[Stopped] = []
    for number in range(runs):
        drawn = draw(size, round(rate * size), cluster, rng)
        baseline = baseline_of(drawn, flips, random.Random(f"{seed}/{number}/{flips}"))
        outcomes.append(stop({"d/t": drawn}, {"d/t": gate(bound)}, 0.05, {"d/t": baseline})["d/t"])
    return outcomes


def print_helped(runs: int, seed: int) -> None:
    """Print what a baseline saves, and how often verdicts differ and limits hold."""
    print("\n| samples | flips | in clusters of | answers asked | without a baseline | differ | limits hold |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for size, flips, cluster in HELPED:
        with_it: list[Stopped] = []
        without: list[Stopped] = []
        for rate in HELPED_RATES:
            with_it += helped_cell(size, 0.8, rate, cluster, flips, runs, seed)
            without += cell(size, 0.8, rate, cluster, 0.05, runs, seed)
        held = [stopped.holds for stopped in with_it if stopped.holds is not None]
        asked, alone = (sum(stopped.asked for stopped in every) / len(every) / size for every in (with_it, without))
        differ = sum(stopped.differs for stopped in with_it) / len(with_it)
        print(
            f"| {size} | {flips:.0%} | {cluster} | {asked:.1%} | {alone:.1%} | {differ:.1%} | "
            f"{sum(held) / max(1, len(held)):.1%} |",
            flush=True,
        )


def print_exact(runs: int, seed: int) -> None:
    """Print how often an exact stop was wrong."""
    outcomes: list[Stopped] = []
    for size, bound, rate, cluster in grid():
        outcomes += cell(size, bound, rate, cluster, "exact", max(1, runs // 10), seed)
    wrong = sum(stopped.differs for stopped in outcomes)
    print(f"\nexact: {wrong} of {len(outcomes)} verdicts differ")


def print_naive(runs: int, seed: int) -> None:
    """Print how often an interval that is looked at again and again passes a model that is not good enough."""
    rng = random.Random(seed)
    for looks, how in ((True, "after every answer"), (False, "once")):
        passed = sum(wilson_again_and_again(1400, 0.78, 0.8, looks=looks, rng=rng) for _ in range(runs))
        print(f"Wilson's interval, looked at {how}: a model of 0.78 passes 0.80 in {passed / runs:.1%}")


def picture() -> str:
    """Return a confidence sequence that closes in on its bound, as SVG."""
    drawn = draw(1400, 1190, 1, random.Random(2))  # 85 %
    decision = stop({"d/t": drawn}, {"d/t": gate(0.8)}, 0.05)["d/t"].decision
    assert decision is not None
    most = decision.course[-1][0]

    def x(asked: float) -> float:
        return 60 + 500 * asked / most

    def y(value: float) -> float:
        return 30 + 240 * (1.0 - value) / 0.5  # from 0.5 to 1

    upper = [f"{x(asked):.1f},{y(high):.1f}" for asked, _, high in decision.course]
    lower = [f"{x(asked):.1f},{y(max(0.5, low)):.1f}" for asked, low, _ in decision.course]
    marks = "".join(
        f'<text x="50" y="{y(share) + 4:.0f}" text-anchor="end">{share:.0%}</text>'
        for share in (0.5, 0.6, 0.7, 0.9, 1.0)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" font-family="sans-serif" font-size="13">'
        '<rect width="640" height="320" fill="#fff"/>'
        f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="#9db8e8"/>'
        f'<path d="M60 {y(0.8):.1f}H560" stroke="#222" stroke-dasharray="6 4"/>'
        f'<path d="M60 {y(0.85):.1f}H560" stroke="#1c4fa0"/>'
        f'<text x="566" y="{y(0.8) + 4:.1f}">bound 80%</text><text x="566" y="{y(0.85) + 4:.1f}">all: 85%</text>'
        f'{marks}<path d="M60 30V270H560" fill="none" stroke="#222"/>'
        f'<text x="60" y="290">1</text><text x="560" y="290" text-anchor="middle">{most} of 1,400 answers</text>'
        '<text x="310" y="310" text-anchor="middle">limits of the share that all answers would give</text></svg>\n'
    )


def main() -> None:
    """Print the tables, or write the picture."""
    parser = argparse.ArgumentParser(description="How often gates that stop early are wrong, and what they ask.")
    parser.add_argument("--runs", type=int, default=100, help="runs per cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, metavar="SVG", help="only write the picture of docs/gates.md")
    parser.add_argument("--only-helped", action="store_true", help="only the table of runs with a baseline")
    options = parser.parse_args()
    if options.picture is not None:
        options.picture.write_text(picture(), encoding="ascii")
        return
    if options.only_helped:
        print_helped(options.runs, options.seed)
        return
    print_published(options.seed)
    print_grid(options.runs, options.seed)
    print_helped(options.runs, options.seed)
    print_exact(options.runs, options.seed)
    print_naive(10 * options.runs, options.seed)


if __name__ == "__main__":
    main()
