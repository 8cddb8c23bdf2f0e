"""Badges."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import synthetic_run

from pytest_trustllm.report.export.badge import badge, badges


def test_one_badge_for_the_gates_and_one_per_dimension() -> None:
    found = badges(synthetic_run.results())
    assert set(found) == {"trust.svg", *(f"trust-{n}.svg" for n in synthetic_run.results()["scores"])}
    texts = [e.text for e in ElementTree.fromstring(found["trust.svg"]).iter() if e.tag.endswith("}text")]
    assert texts == ["trust", "failed"]


def test_a_score_that_is_missing_says_so() -> None:
    results = synthetic_run.results()
    results["scores"]["safety"]["value"] = None
    assert "no value" in badges(results)["trust-safety.svg"]


@pytest.mark.parametrize("text", ["</text><script>alert(1)</script>", "a\"b'c&d", "漢字", "x" * 500, "../../x"])
def test_hostile_names_stay_text(text: str) -> None:
    results = synthetic_run.results()
    results["scores"] = {text: results["scores"]["safety"]}
    for name, svg in badges(results).items():
        assert "/" not in name
        tags = {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "title", "clipPath", "rect", "g", "text"}


def test_a_badge_reads_the_same_without_its_picture() -> None:
    assert ElementTree.fromstring(badge("trust", "passed", "good")).get("aria-label") == "trust: passed"
