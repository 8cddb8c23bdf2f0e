"""The run's card."""

from __future__ import annotations

import synthetic_run

from pytest_trustllm.report import card


def test_the_card_says_what_is_not_known_and_leaves_out_what_is_empty() -> None:
    results = synthetic_run.results()
    results["run"].update(suites=[], seed=0, cpus=8)
    results["usage"].update(cost_usd=None, input_tokens=1234567)
    shown = {title: dict(lines) for title, lines in card.card_of(results)}
    assert shown["Usage"]["cost_usd"].startswith("not known")
    assert shown["Usage"]["input_tokens"] == "1,234,567"
    assert (shown["Run"]["seed"], shown["Run"]["cpus"]) == ("0", "8")
    assert "suites" not in shown["Run"]
    results["usage"]["cost_usd"] = 0.0
    assert dict(dict(card.card_of(results))["Usage"])["cost_usd"] == "0"
