"""What gates can see: how stable verdicts are, and how large a loss turns a gate red."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from scipy.stats import betabinom, binom
from test_comparison import records, task

from pytest_trustllm.gates.verdict import Gate, Policy
from pytest_trustllm.results.baseline import Baseline
from pytest_trustllm.results.measurement import MeasuredRun
from pytest_trustllm.results.power import power_of
from pytest_trustllm.stats.power import NormalNoise, ShareNoise, least_with
from pytest_trustllm.stats.shares import share_limits
from pytest_trustllm.types import Selection


def gate(bound: float, kind: Any = "at_least", confidence: float | None = None, **policy: Any) -> Gate:
    return Gate("f", "d", "t.m", kind, bound, "value", True, ("d/t",), confidence=confidence, policy=Policy(**policy))


def measured(values: Sequence[float], before: Sequence[float] | None = None, **more: Any) -> MeasuredRun:
    found = records(values, **more)
    counts = Counter(record["task"] for record in found)
    baseline = None
    if before is not None:
        run: Any = {"run": {"task_versions": {}, "epochs": 1}}
        baseline = Baseline("b.json", run, records(before))  # type: ignore[arg-type]
    return MeasuredRun([task()], found, Selection(counts, counts), baseline=baseline)


def power(values: Sequence[float], of: Gate, limit: int | None = None, **more: Any) -> dict[str, Any]:
    run = measured(values, **more)
    found = power_of(run, run.judge(of), limit)
    assert found is not None
    return dict(found)


RIGHT = [1.0] * 85 + [0.0] * 15


def test_a_share_is_binomial() -> None:
    found = power(RIGHT, gate(0.8))
    assert found["source"] == "binomial"
    # the rate is known from 100 answers only: the next run errs too
    assert found["another_verdict"] == pytest.approx(betabinom.cdf(79, 100, 85.5, 15.5))
    drop = found["drop"]
    assert binom.cdf(79, 100, 0.85 - drop) == pytest.approx(0.8, abs=1e-6)
    more = found["samples_more"]
    assert 200 < more < 400
    # about so many answers see the same drop in 95 of 100 runs
    assert binom.cdf(0.8 * more - 1e-9, more, 0.85 - drop) == pytest.approx(0.95, abs=0.02)


def test_where_lower_is_better_a_loss_is_a_rise() -> None:
    left, right = power(RIGHT, gate(0.8)), power([1 - value for value in RIGHT], gate(0.2, "at_most"))
    assert right["another_verdict"] == pytest.approx(left["another_verdict"])
    assert right["drop"] == pytest.approx(left["drop"])


def test_a_verdict_far_from_the_bound_stays() -> None:
    assert power(RIGHT, gate(0.5))["another_verdict"] < 1e-6
    assert power(RIGHT, gate(0.99))["another_verdict"] < 1e-3
    assert power(RIGHT, gate(0.99))["drop"] == 0.0


def test_an_interval_that_decides_is_the_one_of_the_run_to_come() -> None:
    of = gate(0.75, confidence=0.95)
    run = measured(RIGHT)
    result = run.judge(of)
    assert result.outcome == "passed"
    found = power_of(run, result)
    assert found is not None
    passes = next(k for k in range(101) if share_limits(k, 100, 0.95)[0] >= 0.75)
    assert found["another_verdict"] == pytest.approx(betabinom.cdf(passes - 1, 100, 85.5, 15.5), abs=1e-6)
    # inconclusive is red, unless the file says that it only warns
    lenient = power_of(run, run.judge(gate(0.75, confidence=0.95, on_inconclusive="warn")))
    assert lenient is not None
    assert lenient["drop"] > found["drop"]


def test_epochs_tell_how_much_a_rerun_varies() -> None:
    def epochs(values: Sequence[float]) -> Any:
        scores = [{"value": v, "answer": None, "reason": None, "observed": {}, "parity": "same"} for v in values]
        return lambda i: [dict(score, met=bool(score["value"])) for score in scores] if i < 90 else [scores[0]] * 2

    steady = power([1.0] * 100, gate(0.8), epochs=lambda i: epochs([1.0, 1.0] if i < 85 else [0.0, 0.0])(0))
    assert steady["source"] == "epochs"
    assert steady["another_verdict"] == 0.0
    varied = power([1.0] * 100, gate(0.8), epochs=lambda i: epochs([1.0, 1.0] if i < 70 else [1.0, 0.0])(0))
    assert 0.0 < varied["another_verdict"] < 0.5
    assert varied["epochs_more"] is not None
    assert varied["epochs_more"] > 2


def test_a_run_of_fewer_samples_sees_less() -> None:
    whole, part = power(RIGHT, gate(0.8)), power(RIGHT, gate(0.8), 40)
    assert (whole["samples"], part["samples"]) == (100, 40)
    assert part["drop"] > whole["drop"]
    assert part["another_verdict"] > whole["another_verdict"]
    assert power(RIGHT, gate(0.8), 4000) == whole


def test_a_drop_against_this_very_run_and_against_a_baseline() -> None:
    run = measured(RIGHT)
    of = gate(0.05, "max_drop", 0.95)
    itself = power_of(run, run.judge(of))
    assert itself is not None
    compared = measured(RIGHT, before=[0.0] * 2 + RIGHT[2:])
    against = power_of(compared, compared.judge(of))
    assert against is not None
    # few answers changed: that is known only from a second run
    assert 0.05 < against["drop"] < itself["drop"]
    assert against["another_verdict"] < itself["another_verdict"]


def test_a_part_or_no_verdict_has_no_power() -> None:
    run = measured([])
    assert power_of(run, run.judge(gate(0.8))) is None
    unscored = measured([1.0] * 10)
    result = unscored.judge(gate(0.5))
    assert power_of(unscored, result) is not None


@pytest.mark.parametrize("noise", [ShareNoise(0.7, 50), NormalNoise(0.7, 0.065)])
def test_probabilities_fall_with_what_is_asked_for(noise: Any) -> None:
    again = [noise.again(k / 20) for k in range(21)]
    given = [noise.given(0.7, k / 20) for k in range(21)]
    assert again == sorted(again, reverse=True)
    assert given == sorted(given, reverse=True)
    assert again[0] > 0.999
    assert noise.given(0.7, 0.5, size=10) > given[10]


def test_the_least_number_with_a_probability() -> None:
    assert least_with(lambda x: x, 0.5, 0.0, 1.0) == pytest.approx(0.5)
    assert least_with(lambda x: x, 0.5, 0.7, 1.0) == 0.7
    assert least_with(lambda x: x, 2.0, 0.0, 1.0) is None


def test_reruns_get_another_verdict_as_often_as_said() -> None:
    rng = random.Random(3)
    said = differed = 0.0
    for _ in range(400):
        rate = rng.uniform(0.7, 0.9)
        first, second = (sum(rng.random() < rate for _ in range(60)) for _ in range(2))
        met = first / 60 >= 0.8
        again = ShareNoise(first / 60, 60).again(0.8)
        said += 1 - again if met else again
        differed += met != (second / 60 >= 0.8)
    assert said == pytest.approx(differed, rel=0.2)


@pytest.mark.parametrize(
    ("share", "trials", "least"), [(0.7, 50, 0.6), (0.0, 30, 0.1), (1.0, 30, 0.95), (0.3, 7.5, 0.4)]
)
def test_probabilities_of_shares_are_those_of_scipy(share: float, trials: float, least: float) -> None:
    noise = ShareNoise(share, trials)
    count = round(trials)
    below = math.ceil(least * count) - 1
    # both distributions of scipy.stats, with Jeffreys' prior in the first
    assert noise.again(least) == pytest.approx(
        betabinom.sf(below, count, share * trials + 0.5, (1 - share) * trials + 0.5), rel=1e-9
    )
    assert noise.given(0.4, least) == pytest.approx(binom.sf(below, count, 0.4), rel=1e-9)


def test_a_hundred_million_trials_are_no_sum() -> None:
    noise = ShareNoise(0.5, 100_000)
    assert noise.given(0.5, 0.4999, size=1000) == pytest.approx(binom.sf(49_990_000 - 1, 10**8, 0.5), rel=1e-9)
    assert [noise.given(0.5, 0.0), noise.given(0.5, 1.1), noise.again(0.0), noise.again(1.1)] == [1.0, 0.0, 1.0, 0.0]
