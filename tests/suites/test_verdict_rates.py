"""Which rates can be corrected for the mistakes of a judge."""

from __future__ import annotations

from pytest_trustllm.config import paths
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.verdict_rates import counted_label, is_verdict_rate


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
