"""Plain words and references: complete, and about what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_trustllm.config import paths
from pytest_trustllm.extensions import ASSURANCE, suite_package
from pytest_trustllm.registry import Registry
from pytest_trustllm.report import card, words
from pytest_trustllm.suites.reader import read_suite

FILE = Path(words.__file__).with_name("words.yaml")
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def shipped_metrics() -> set[str]:
    places = [paths.shipped("suites"), suite_package(ASSURANCE).suites]
    suites = [read_suite(path, Registry(), builtin=True) for place in places for path in sorted(place.glob("*.yaml"))]
    return {task.metric_id(spec.name) for suite in suites for task in suite.tasks for spec in task.metrics}


def test_every_shipped_metric_has_its_words_and_no_other() -> None:
    assert DOCUMENT["metrics"].keys() == shipped_metrics()


def test_every_dimension_has_its_words() -> None:
    assert DOCUMENT["dimensions"].keys() == {id_.partition("/")[0] for id_ in shipped_metrics()}


@pytest.mark.parametrize("dimension", DOCUMENT["dimensions"])
def test_every_reference_is_an_entry_of_its_list(dimension: str) -> None:
    entry = DOCUMENT["dimensions"][dimension]
    assert set(entry) == {"plain", "harm", *words.LISTS}
    references = words.references_of(dimension)
    assert len(references) == sum(len(entry[name]) for name in words.LISTS)
    assert all(reference.title and reference.url.startswith("https://") for reference in references)


def test_every_list_says_where_it_is_from() -> None:
    assert tuple(DOCUMENT["sources"]) == words.LISTS
    for source in DOCUMENT["sources"].values():
        assert set(source) == {"short", "title", "published", "url", "entries"}
    assert len(DOCUMENT["sources"]["owasp"]["entries"]) == 10


def test_words_are_short_sentences_without_jargon() -> None:
    for entries in (DOCUMENT["metrics"], DOCUMENT["dimensions"]):
        for name, entry in entries.items():
            for text in (entry["plain"], entry["harm"]):
                assert text.endswith("."), name
                assert len(text) <= 130, name
                assert not {"F1", "macro", "RtA", "parity", "embedding", "logit"} & set(text.split()), name


def test_a_sub_metric_has_the_words_of_its_metric_and_an_own_one_none() -> None:
    assert words.words_of("safety/jailbreak.refusal_rate{attack=x}") == words.words_of("safety/jailbreak.refusal_rate")
    assert words.words_of("mine/task.accuracy") is None
    assert words.words_of_dimension("mine") is None
    assert words.references_of("mine") == []


def test_the_card_explains_its_metrics() -> None:
    import synthetic_run

    text = card.section(synthetic_run.results())
    assert "How often it declines a harmful request that is disguised." in text
    assert "LLM02 Sensitive Information Disclosure" in text
