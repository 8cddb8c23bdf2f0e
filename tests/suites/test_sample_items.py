"""The bundled sample items: every task has some, of every kind, and none comes from the data set."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.rows import Archive
from pytest_trustllm.suites.samples import DataSource
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Sample

ROOT = Path(__file__).resolve().parents[2]
DATA_SET = ROOT.parent / "shared" / "trustllm" / "dataset.zip"
LEAST = 8
LONG = 6
"""Words from which a sentence says enough to be recognised."""


@cache
def tasks() -> tuple[Task, ...]:
    suites = find_suites([], Registry(), root=ROOT)
    return tuple(task for suite in suites for task in suite.tasks if task.reads is None)


def samples(task: Task) -> list[Sample]:
    data = DataSource(None)
    return [data.sample(task, entry) for entry in data.entries(task)]


def every_task() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("task", tasks(), ids=lambda task: task.id)


def values(name: str, field: str) -> set[str]:
    """Values of a field in a task's sample file, as JSON."""
    path = ROOT / "suites" / "data" / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {json.dumps(row[field]) for row in rows if field in row}


def words(text: str) -> str:
    """Lower-case words and numbers of a text, with single blanks around each."""
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?;])\s|\n", text) if len(words(part).split()) >= LONG]


def test_every_asking_task_is_there() -> None:
    assert len(tasks()) == 27
    assert {task.dimension for task in tasks()} == {
        "truthfulness", "safety", "fairness", "robustness", "privacy", "ethics",
    }  # fmt: skip


@every_task()
def test_a_task_has_enough_samples_and_asks_none_twice(task: Task) -> None:
    found = samples(task)
    assert len(found) >= LEAST
    repeated = [prompts for prompts, count in Counter(sample.prompts for sample in found).items() if count > 1]
    assert repeated == []


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        ("truthfulness/misinformation_internal", "source", {"squad", "codah", "hotpot", "adversarial"}),
        ("truthfulness/misinformation_external", "source", {"climate", "scifact", "covid", "healthver"}),
        ("truthfulness/misinformation_external", "answer", {"SUPPORT", "REFUTE"}),
        ("truthfulness/hallucination", "source", {"mc", "halu_qa", "halu_dial", "halu_summ"}),
        ("safety/jailbreak", "source", {"ITC", "QBB"}),
        ("safety/misuse", "source", {"misuse_add", "Do-anything-now", "do_not_answer"}),
        ("fairness/stereotype_recognition", "label", {"stereotype", "anti-stereotype", "unrelated"}),
        ("fairness/stereotype_recognition", "type", {"race", "profession", "gender", "religion"}),
        ("fairness/preference", "type", {"plain", "force"}),
        ("robustness/advglue", "task", {"qqp", "sst2", "qnli", "mnli"}),
        ("robustness/advglue", "label", {0, 1, 2}),
        ("robustness/ood_generalization", "source", {"flipkart", "ddxplus"}),
        ("privacy/privacy_awareness", "type", {"normal", "aug"}),
        ("privacy/privacy_leakage", "type", {"A", "B", "C", "D"}),
        ("privacy/privacy_leakage", "shotType", {"zero-shot", "five-shot"}),
        ("ethics/ethics", "topic", {"commonsense", "justice"}),
        ("ethics/social_chemistry_101", "label", {-2.0, -1.0, 0.0, 1.0, 2.0}),
        ("ethics/awareness", "dimension", {"mission", "perspective", "capability"}),
        ("ethics/emotional_awareness", "label", {"1", "2", "3", "4"}),
    ],
)
def test_every_kind_is_there(name: str, field: str, expected: set[object]) -> None:
    assert values(name, field) == {json.dumps(value) for value in expected}


def test_the_right_option_is_not_always_the_first() -> None:
    path = ROOT / "suites" / "data" / "truthfulness" / "hallucination.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    letters = Counter(
        line[0] for row in rows for line in row["prompt"].splitlines() if line[1:] == f". {row['answer']}"
    )
    assert sum(letters.values()) == sum(row["source"] == "mc" for row in rows)
    assert len(letters) == 3


def test_all_fourteen_attacks_are_there() -> None:
    assert len(values("safety/jailbreak", "label")) == 14


def test_salaries_are_asked_for_every_combination() -> None:
    fields = ("sex", "race", "education", "work_type")
    path = ROOT / "suites" / "data" / "fairness" / "disparagement.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    combinations = {tuple(row[field] for field in fields) for row in rows}
    expected = 1
    for field in fields:
        expected *= len({row[field] for row in rows})
    assert len(combinations) == len(rows) == expected


@every_task()
def test_rows_have_the_fields_of_the_data_set(task: Task) -> None:
    if not DATA_SET.is_file():
        pytest.skip(f"needs the TrustLLM data set at {DATA_SET}")
    full = DataSource(Archive(DATA_SET, "test"))
    shapes = {frozenset(row) for entry in full.entries(task) for row in entry.rows}
    assert {frozenset(row) for sample in samples(task) for row in sample.rows} <= shapes


def test_no_sentence_comes_from_the_data_set() -> None:
    if not DATA_SET.is_file():
        pytest.skip(f"needs the TrustLLM data set at {DATA_SET}")
    archive = Archive(DATA_SET, "test")
    files = {task.data.trustllm for task in tasks() if task.data.trustllm is not None}
    known = words(" ".join(json.dumps(row, ensure_ascii=False) for file in sorted(files) for row in archive.rows(file)))
    prompts = [content for task in tasks() for s in samples(task) for prompt in s.prompts for _, content in prompt]
    copied = [text for prompt in prompts for text in (prompt, *sentences(prompt)) if words(text) in known]
    assert copied == []
