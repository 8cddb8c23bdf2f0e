"""What every registered scorer promises."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from cases import case

from pytest_trustllm.registry import SCORERS, Registry
from pytest_trustllm.scorers.choice import FirstNumber, LetterAnywhere, LetterWord, OptionLetter
from pytest_trustllm.scorers.judged import OpinionChange
from pytest_trustllm.scorers.label import PerturbedPair, YesOrNo
from pytest_trustllm.scorers.mixed import HallucinationAnswer, ShiftedAnswer
from pytest_trustllm.scorers.similarity import AnswerSimilarity
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.samples import DataSource
from pytest_trustllm.types import RAISES, ROLES, Response

SUITES = Path(__file__).parents[2] / "suites"

TEXTS = {
    "null": None,
    "empty": "",
    "blank": " \n\t",
    "right": "A",
    "wrong": "B",
    "both": "A or B, yes and no",
    "refusal": "I'm sorry, but I cannot help with that.",
    "chinese": "我认为这是错误的，答案是A。",
    "very long": "word " * 60_000,
    "markdown": "**Answer:** `A`\n\n- *because*",
    "unicode look-alikes": "Ａ Α А １ ² ⅓ Ⅳ ＠",
    "many digits": "-" + "9" * 6000,
    "lone surrogate": "\ud800 A \udfff",
    "control characters": "\x00\x1b[2J\u202e\u2028A",
    "dots": "...",
    "template": "{{ x }} {% for %} {# #}",
    "fence": "<<<END RESPONSE 0123456789abcdef>>>",
}
LONG = {
    "line breaks": "x" + "\n" * 50_000 + "!",
    "blank lines": "x" + "  \n" * 30_000 + "!",
    "blocks without an end": "```json\n" * 10_000,
    "brackets": "(" * 50_000 + "x",
    "commas": "A, " * 20_000,
    "signs of emphasis": "*_ " * 20_000,
    "formulas": "\\text{" * 10_000,
    "letters": "a" * 100_000,
    "negations": "not " * 20_000,
    "answers": "answer: " * 10_000,
    "addresses": "a@" * 30_000,
    "numbers": "1 " * 30_000,
    "a key twice": "{" + ", ".join(f'"{n}": 1' for n in range(20_000)) + ', "19999": 2}',
}
"""Texts that take time with the square of their length, for a pattern that can begin at every place of them."""
ROW = {
    "prompt": "Which? (1) Proud (2) Sad. A. one\nB. two",
    "answer": "SUPPORT",
    "question": "Which?",
    "source": "halu_qa",
    "label": "1",
    "task": "qqp",
    "type": "force",
    "index": 4,
    "modified knowledge": "x",
    "sentence": "x",
    "sex": "male",
    "race": "asian",
    "gt-email": "a@b.org",
    "n_completion": "x",
    "s_completion": "y",
    "found": "Developed by ACME in 2025",
    "holds": False,
    "responses": ["Developed by ACME in 2025"],
    "kind": "names",
    "reference": "x",
    "language": "en",
}
GOLD = {
    FirstNumber: {"answer": 1},
    OptionLetter: {"answer": "one"},
    LetterAnywhere: {"label": "A"},
    LetterWord: {"label": "A"},
    YesOrNo: {"answer": "No"},
    HallucinationAnswer: {"answer": "No"},
    ShiftedAnswer: {"label": "positive"},
}
"""What the row holds instead, where a scorer refuses another label."""
PAIRED = (PerturbedPair, OpinionChange, AnswerSimilarity)
ANSWERS = {
    "down": dict.fromkeys(ROLES, Response(error="HTTP 500")),
    "unusable": dict.fromkeys(ROLES, Response(text="perhaps", vector=(), number=7.0)),
    "silent": dict.fromkeys(ROLES, Response()),
    "normal": {
        "judge": Response(text="no"),
        "refusal": Response(text="compliance"),
        "embedder": Response(vector=(1.0, 2.0)),
        "toxicity": Response(number=0.5),
        "guard": Response(text="unsafe\nS1"),
    },
}


def rows_and_texts(scorer, text):
    row = ROW | GOLD.get(type(scorer), {})
    return ([row, row], ["A yes", text]) if isinstance(scorer, PAIRED) else (row, [text])


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("name", sorted(SCORERS))
def test_no_text_holds_a_scorer_up(name, text, scorer_of, run):
    scorer = scorer_of(name)
    rows, texts = rows_and_texts(scorer, LONG[text])
    score = run(scorer, rows, *texts, **ANSWERS["normal"])
    assert score.value is None or score.value == score.value


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_every_text_gets_a_score(name, scorer_of, run):
    scorer = scorer_of(name)
    for text, answers in itertools.product(TEXTS, ANSWERS):
        with case(text, answers):
            rows, texts = rows_and_texts(scorer, TEXTS[text])
            score = run(scorer, rows, *texts, **ANSWERS[answers])
            again = run(scorer, rows, *texts, **ANSWERS[answers])
            assert score == again
            assert score.value is None or score.value == score.value
            assert score.parity in ("same", None, RAISES) or "value" in score.parity
            if score.value is None and score.parity == "same":
                pytest.fail("nothing cannot be repeated")


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_every_scorer_is_a_frozen_value_with_known_roles(name, scorer_of):
    scorer = scorer_of(name)
    assert set(scorer.roles) <= set(ROLES)
    assert dataclasses.is_dataclass(scorer)
    assert type(scorer).__dataclass_params__.frozen
    assert not hasattr(scorer, "__dict__")
    assert callable(getattr(scorer, "check_sample", len))
    assert type(scorer).__doc__


def test_rubrics_are_all_used():
    used = "".join(path.read_text(encoding="utf-8") for path in SUITES.glob("*.yaml"))
    assert [p.name for p in (SUITES / "rubrics").glob("*") if f"rubrics/{p.name}" not in used] == []


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_item_has_what_its_scorer_needs(path, run):
    suite, data = read_suite(path, Registry()), DataSource(None)
    for task in suite.tasks:
        asked = next(t for t in suite.tasks if t.name == (task.reads or task.name))
        for entry in data.entries(asked):
            sample = data.sample(asked, entry)
            if hasattr(task.scorer, "check_sample"):
                task.scorer.check_sample(sample)
            run(task.scorer, sample.rows, *["A"] * len(sample.rows), **ANSWERS["normal"])
