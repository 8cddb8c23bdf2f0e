"""What is found in a model's card: the verdicts of a careful reader."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.config import paths
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.extensions import ASSURANCE, suite_package
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.model_card import read_card
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.samples import DataSource
from pytest_trustllm.types import NOT_ASKED, Score

CARDS = Path(__file__).parents[1] / "cards"
REAL = Path(os.environ.get("TRUSTLLM_REAL", "/nonexistent")) / "minilm" / "README.md"
FIELDS = (
    "name of the model", "who developed it", "licence", "version or date of release", "languages or modalities",
    "architecture and size", "intended use", "uses that are out of scope", "known limits and risks",
    "summary of the training data", "cut-off of the training data", "compute of the training",
    "results of an evaluation", "conditions of the evaluation", "measures for safety", "whom to ask",
)  # fmt: skip


def by_rules(step: Any) -> Score:
    """Return a score as it is without a judge."""
    if isinstance(step, Score):
        return step
    next(step)
    with pytest.raises(StopIteration) as end:
        step.send([NOT_ASKED])
    score: Score = end.value.value
    return score


def verdicts(card: Path, name: str = "documentation") -> dict[str, str | None]:
    """Return title -> what the scorer reads in the card."""
    package = suite_package(ASSURANCE)
    suite = read_suite(package.suites / "transparency.yaml", Registry(), package=package)
    (task,) = [task for task in suite.tasks if task.name == name]
    source = DataSource(None, None, read_card(card))
    found = {}
    for entry in source.entries(task):
        sample = source.sample(task, entry)
        assert sample.prompts == () or name == "self_description"
        found[str(sample.row["title"])] = by_rules(task.scorer.score(sample, [])).answer
    return found


def test_a_complete_card_documents_everything() -> None:
    assert verdicts(CARDS / "complete.md") == dict.fromkeys(FIELDS, "documented")
    assert set(verdicts(CARDS / "complete.md", "disclosure").values()) == {"documented"}


def test_a_template_documents_nothing() -> None:
    found = verdicts(CARDS / "poor.md")
    assert set(found.values()) == {"boilerplate", "missing"}
    for title in ("who developed it", "licence", "intended use", "known limits and risks", "whom to ask"):
        assert found[title] == "boilerplate", title
    assert found["compute of the training"] == "missing"
    assert set(verdicts(CARDS / "poor.md", "disclosure").values()) == {"missing"}


@pytest.mark.skipif(not REAL.is_file(), reason="needs TRUSTLLM_REAL: bash tools/real_models.sh DIR")
def test_a_real_card_of_an_embedder() -> None:
    found = verdicts(REAL)
    documented = {title for title, verdict in found.items() if verdict == "documented"}
    assert documented == {
        "name of the model", "who developed it", "licence", "languages or modalities", "architecture and size",
        "intended use", "summary of the training data", "compute of the training",
    }  # fmt: skip
    assert {verdict for title, verdict in found.items() if title not in documented} == {"missing"}


def test_headings_in_code_and_comments_are_not_headings(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A1\n```python\n# Limitations\nx = 1\n```\n<!-- ## Safety -->\nTitle\n-----\nbelow\n")
    card = read_card(path)
    assert [section.heading for section in card.sections] == ["A1", "Title"]
    assert card.find([], ["limitation", "safety"], []) == []


def test_where_a_field_was_found_is_told(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\n---\n# A\n## The licence\nMIT, as above.\n## Other\nIts licence is MIT.\n")
    found = [
        (passage.place, passage.text) for passage in read_card(path).find(["license"], ["licence"], ["licence is"])
    ]
    assert found == [
        ("key 'license' of the head", "mit"), ("section 'The licence'", "MIT, as above."),
        ("a sentence", "Its licence is MIT."),
    ]  # fmt: skip


def test_a_form_in_yaml_counts_like_a_card(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(
        "intended_use: It answers questions of employees about the documents of our company.\ncontact: a@example.org\n"
    )
    found = verdicts(path)
    assert [title for title, verdict in found.items() if verdict == "documented"] == ["intended use", "whom to ask"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("card.md", b"<!DOCTYPE html>\n<html><body>", "is an HTML page; give the card's own Markdown"),
        ("card.md", b"\xff\xfe", "is not UTF-8 text"),
        ("card.md", b"---\na: [\n---\n", "card.md:3:1: broken YAML: "),
        ("card.yaml", b"a: &a [x]\nb: *a\n", "its YAML has aliases"),
        ("card.md", b"x" * (2**20 + 1), "is longer than 1 MiB"),
        ("card.yaml", b"- a\n- b\n", "expected a mapping, found"),
        ("card.yaml", b"developers: !!bool foo\n", "card.yaml:1:13: broken YAML: 'foo' is no bool"),
        ("card.yaml", b"developers: !!int ''\n", "broken YAML: '' is no int"),
        ("card.yaml", b"developers: !!float ''\n", "broken YAML: '' is no float"),
        ("card.yaml", b"developers: 0x" + b"f" * 6000, "broken YAML: a whole number that is not written in at most 19"),
        ("card.md", b"---\na: " + b"[" * 5000 + b"]" * 5000 + b"\n---\n", "broken YAML: "),
        ("none.md", None, "none.md: cannot be read: No such file"),
    ],
)
def test_what_is_no_card_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        read_card(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


HOSTILE = {
    "a heading of signs": "# a" + "#" * 200_000 + "b\n",
    "a fence without an end": "~~~" + "~" * 100_000 + "\n",
    "fences": "```\n" * 50_001,
    "brackets": "[" * 400_000,
    "tags": "<" * 400_000,
    "half a link": "[a](" * 100_000,
    "releases": "released in " * 30_000,
    "an address": "a" * 400_000,
    "headings": "# Limitations\n" * 20_000,
    "underlined": "x\n" + "-" * 400_000,
    "comments": "<!--" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_that_is_made_to_take_long_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "card.md"
    path.write_text(HOSTILE[name])
    assert verdicts(path)["intended use"] in ("missing", "boilerplate")


def test_blocks_of_code_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    path.write_text("# A\none\n```python\n# no heading\n```\ntwo ##\n~~~\nx\n~~~~\n## B ##\nthree\n````\nopen\n")
    card = read_card(path)
    assert card.text == "# A\none\ntwo ##\n## B ##\nthree\n````\nopen\n"
    assert card.code == "```python\n# no heading\n```\n~~~\nx\n~~~~\n"
    assert [section.heading for section in card.sections] == ["A", "B"]


def test_every_row_says_who_asks_for_it() -> None:
    for file in (suite_package(ASSURANCE).suites / "data").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert row["title"]
            assert row["asked_by"] or "prompt" in row


def test_sections_contain_their_subsections_and_end_at_the_next_of_their_level(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# A1\na\n## B\nb\n### C\nc\n## D\nd\n# E\ne\n")
    found = {section.heading: section.text.split() for section in read_card(path).sections}
    assert found["A1"] == ["a", "##", "B", "b", "###", "C", "c", "##", "D", "d"]
    assert found["B"] == ["b", "###", "C", "c"]
    assert found["C"] == ["c"]
    assert found["D"] == ["d"]
    assert found["E"] == ["e"]


@pytest.mark.parametrize(
    "piece", ["# a\n", "<!-- a\n", "```\n", "~~~\na\n", "a\n-\n", "| a | 1 |\n", "[" * 50, "- a: "]
)
def test_a_huge_card_of_one_piece_is_read_in_time(tmp_path: Path, piece: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(piece * (1_000_000 // len(piece)))
    card = read_card(path)
    started = time.process_time()
    card.find(["x"], ["limit"], [r"\bdeveloped by\b.*\d{4}"])
    assert time.process_time() - started < 10


def test_the_form_of_init_has_a_key_for_every_field_and_counts_as_empty(tmp_path: Path) -> None:
    form = paths.packaged("cli", "starter", "card.yaml")
    for name in ("documentation", "disclosure"):
        assert set(verdicts(form, name).values()) == {"boilerplate"}
    filled = tmp_path / "card.yaml"
    text = (
        "It was done in 2025 by ten people who work with care; ask safety@nutwork.example about the MIT licence of it."
    )
    filled.write_text(form.read_text().replace("TODO", f"{text!r}"))
    for name in ("documentation", "disclosure"):
        assert set(verdicts(filled, name).values()) == {"documented"}
