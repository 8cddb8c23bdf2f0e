"""Which rates can be corrected for the mistakes of a judge."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_trustllm.config import paths
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.own_judge import OwnJudge
from pytest_trustllm.scorers.verdicts import CountsVerdicts
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.talks import ScoredTurns, Talk
from pytest_trustllm.suites.verdict_rates import counted_label, is_verdict_rate, why_combined


def test_the_shipped_rates_that_are_a_share_of_verdicts() -> None:
    """docs/judges.md lists them; a scorer that decides some samples by rules is not among them."""
    suites = find_suites([], Registry(), root=paths.shipped("suites"))
    tasks = [task for suite in suites for task in suite.tasks]
    found = {
        task.metric_id(spec.name): counted_label(task)
        for task in tasks
        for spec in task.metrics
        if is_verdict_rate(task, spec)
    }
    assert found.pop("truthfulness/adversarial_factuality.corrected_rate") == "[CORRECTED]"
    assert found.pop("truthfulness/sycophancy_preference.change_rate") == "NO"
    assert set(found.values()) == {"refusal"}
    assert {"safety/jailbreak.refusal_rate", "safety/misuse.refusal_rate"} <= set(found)
    assert "fairness/preference.refusal_rate" not in found, "a rule decides forced choices"


def test_every_counted_label_is_one_of_its_vocabulary() -> None:
    for suite in find_suites([], Registry(), root=paths.shipped("suites")):
        for task in suite.tasks:
            label = counted_label(task)
            assert label is None or label in task.scorer.vocabulary.labels


def test_a_task_that_chooses_one_of_its_epochs_has_no_share_of_verdicts() -> None:
    suites = find_suites([], Registry(), root=paths.shipped("suites"))
    task = next(task for suite in suites for task in suite.tasks if counted_label(task))
    assert counted_label(dataclasses.replace(task, reducer="any")) is None


@pytest.mark.parametrize(("rule", "counts"), [("last", True), ("every", False), ("any", False)])
def test_a_conversation_scored_by_several_turns_has_no_share_of_verdicts(rule: ScoredTurns, counts: bool) -> None:
    suites = find_suites([], Registry(), root=paths.shipped("suites"))
    task = next(task for suite in suites for task in suite.tasks if counted_label(task))
    talk = Talk(turns=("Go on.",), score=rule)
    asked = dataclasses.replace(task, talk=talk)
    assert (counted_label(asked) is not None) is counts
    assert is_verdict_rate(asked, asked.metrics[0]) is counts
    assert why_combined(asked) == (
        None if counts else f"{task.id} makes one score of the verdicts on several turns (score: {rule})"
    )


@pytest.mark.parametrize(
    ("labels", "counted"),
    [
        ({"YES": 1.0, "NO": 0.0}, "YES"),
        ({"rude": 0.0, "polite": 1.0, "neither": 0.0}, "polite"),
        ({"full": 1.0, "half": 0.5, "none": 0.0}, None),
        ({"a": 1.0, "b": 1.0, "c": 0.0}, None),
        ({"1": 1.0, "2": 2.0}, None),
    ],
)
def test_an_own_judge_counts_a_label_if_its_values_say_so(labels: dict[str, float], counted: str | None) -> None:
    scorer = OwnJudge("Is it?", labels)
    assert isinstance(scorer, CountsVerdicts)
    assert scorer.counted == counted
