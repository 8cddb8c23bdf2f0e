"""Which responses people are asked to label."""

from __future__ import annotations

from itertools import pairwise

import pytest
import saved_run

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.metrics.observations import observed_sample
from pytest_trustllm.results.baseline import other_differences
from pytest_trustllm.results.label_draw import JudgedUnit, allocation, draw, frame_digest, judged_units


def units(positive: int, negative: int) -> list[JudgedUnit]:
    verdicts = [1.0] * positive + [0.0] * negative
    return [JudgedUnit(f"{i:04d}", 0, verdict, f"{i:04d}", f"f{i}") for i, verdict in enumerate(verdicts)]


def test_the_rarer_verdict_gets_more_than_its_share() -> None:
    assert allocation([1120, 280], 100) == [67, 33]
    assert allocation([1372, 28], 100) == [88, 12]
    assert allocation([700, 700], 100) == [50, 50]
    assert allocation([10, 3], 100) == [10, 3]
    assert allocation([500, 2], 100) == [98, 2]


@pytest.mark.parametrize("sizes", [[1120, 280], [1372, 28], [400, 3], [7]])
def test_more_labels_are_never_fewer_of_a_verdict(sizes: list[int]) -> None:
    found = [allocation(sizes, count) for count in range(1, 200)]
    for count, (before, after) in enumerate(pairwise(found), 1):
        assert sum(before) == min(count, sum(sizes))
        assert all(one <= other for one, other in zip(before, after, strict=True))


def test_the_same_seed_draws_the_same_and_more_of_the_same() -> None:
    all_units = units(300, 100)
    few, many = draw(all_units, 50, "0/t"), draw(list(reversed(all_units)), 80, "0/t")
    assert draw(all_units, 50, "0/t") == few
    assert {one.unit for one in few} < {one.unit for one in many}
    assert {one.unit for one in draw(all_units, 50, "1/t")} != {one.unit for one in few}
    assert len({one.unit for one in many}) == 80


def test_chances_are_recorded() -> None:
    drawn = draw(units(300, 100), 50, "0/t")
    chances = {one.unit.verdict: one.chance for one in drawn}
    counts = {verdict: sum(one.unit.verdict == verdict for one in drawn) for verdict in (0.0, 1.0)}
    assert chances == {1.0: counts[1.0] / 300, 0.0: counts[0.0] / 100}
    # the sum of 1 / chance is the number of responses, whatever was drawn
    assert sum(1 / one.chance for one in drawn) == pytest.approx(400)


def test_every_response_of_a_verdict_is_drawn_as_often() -> None:
    """The weighted mean over many draws is the mean over all responses: here of their numbers."""
    all_units = units(30, 10)
    found = []
    for seed in range(400):
        drawn = draw(all_units, 12, f"{seed}/t")
        found.append(sum(int(one.unit.id) / one.chance for one in drawn) / 40)
    assert sum(found) / 400 == pytest.approx(19.5, abs=0.4)


def test_verdicts_are_shown_in_no_order() -> None:
    """Whoever labels could tell verdicts from their place otherwise."""
    drawn = draw(units(1372, 28), 100, "0/t")
    places = [place for place, one in enumerate(drawn) if one.unit.verdict == 0.0]
    assert len(places) == 12
    assert 30 < sum(places) / 12 < 70


def test_epochs_are_responses_of_their_own() -> None:
    scores = [{"value": v, "answer": None, "reason": None, "observed": {}, "parity": "same"} for v in (1.0, 0.0)]
    record = {"id": "0001", "status": "passed", "fingerprint": "f", "group": {}, **scores[0], "epochs": scores}
    found = judged_units([observed_sample(record, record)])  # type: ignore[arg-type]
    assert [(unit.key, unit.verdict) for unit in found] == [(("0001", 0), 1.0), (("0001", 1), 0.0)]


def test_a_score_that_is_no_verdict_is_one_line() -> None:
    record = {
        "id": "0001",
        "status": "passed",
        "group": {},
        "value": 0.5,
        "answer": None,
        "observed": {},
        "parity": None,
    }
    with pytest.raises(ResultsError, match=r"sample 0001 has the score 0.5; only verdicts of 0 and 1 are a rate"):
        judged_units([observed_sample(record, record)])  # type: ignore[arg-type]


def test_the_frame_tells_runs_apart() -> None:
    base = units(3, 2)
    assert frame_digest(reversed(base)) == frame_digest(base)
    assert frame_digest(units(2, 3)) != frame_digest(base)
    assert frame_digest([base[0]._replace(fingerprint="other"), *base[1:]]) != frame_digest(base)


def test_a_comparison_of_runs_says_that_their_judges_were_checked_differently() -> None:
    before, now = saved_run.run_entry(), saved_run.run_entry(judge_checks=[{"role": "refusal"}])
    line = "the checks of judges are not the baseline's; corrected rates differ for that reason too"
    assert other_differences(before, now) == [line]
    assert other_differences(before, saved_run.run_entry(judge_checks=[])) == []
