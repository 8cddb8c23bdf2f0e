"""The run's card."""

from __future__ import annotations

import pytest
import synthetic_run

from pytest_trustllm.report.page import provenance


def test_the_card_says_what_is_not_known_and_leaves_out_what_is_empty() -> None:
    results = synthetic_run.results()
    results["run"].update(suites=[], seed=0, cpus=8)
    results["usage"].update(cost_usd=None, input_tokens=1234567)
    shown = {title: dict(lines) for title, lines in provenance.card_of(results)}
    assert shown["Usage"]["cost in USD"].startswith("not known")
    assert shown["Usage"]["input tokens"] == "1,234,567"
    assert (shown["Run"]["seed"], shown["Run"]["processor cores"]) == ("0", "8")
    assert "suites" not in shown["Run"]
    results["usage"]["cost_usd"] = 0.0
    assert dict(dict(provenance.card_of(results))["Usage"])["cost in USD"] == "0"
    results["usage"]["cost_usd"] = 1234.567
    assert dict(dict(provenance.card_of(results))["Usage"])["cost in USD"] == "1,234.57"


@pytest.mark.parametrize(
    ("bundled", "words"),
    [
        ({"a/x": True, "b/y": True}, "the items of all tasks"),
        ({"a/x": True, "b/y": False, "c/z": True}, "the items of a/x, c/z"),
        ({"a/x": False}, None),
    ],
)
def test_bundled_items_are_told_in_words(bundled: dict[str, bool], words: str | None) -> None:
    results = synthetic_run.results()
    results["run"]["bundled"] = bundled
    assert dict(dict(provenance.card_of(results))["Run"]).get("bundled") == words
