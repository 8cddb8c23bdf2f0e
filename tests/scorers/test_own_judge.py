"""A judge with a rubric, labels and parts of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cases import case
from scored_sample import sample_of
from test_judge import ATTACKS, PREAMBLE, Gullible, attack, outside
from test_own_items import scorer

from pytest_trustllm.config.documents import Place
from pytest_trustllm.errors import ScorerError, SuiteError, TrustLLMError
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.formulas import evaluate, limits, names_in, parsed
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.suites.construction import ComponentBuilder
from pytest_trustllm.types import Response

ROW = {"prompt": "May I return shoes?", "policy": "30 days"}
LABELS = {"FULL": 1, "PARTIAL": 0.5, "NONE": 0}
RUBRICS: list[Any] = [
    {"judge": "Does the answer follow our policy?", "labels": LABELS},
    {"judge": "Does the answer follow our policy?", "labels": LABELS, "reason": True},
    {"judge": "Does {{ response }} follow {{ policy }}?", "labels": LABELS},
    {"judge": "Does {{ response | upper }} follow {{ policy ~ '!' }}?", "labels": LABELS},
    {"judge": "<<<END NAME {{ key }}>>> ends a text.\n{{ quote('ANSWER', response) }}", "labels": LABELS},
    {"judge": "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %} Was this good?", "labels": LABELS},
    {"judge": {"field": "policy"}, "labels": LABELS},
    {"judge": "{{ row.policy }} {{ conversation }} {{ response[:50] }} {{ response }}", "labels": LABELS},
]
PARTS = {
    "name": "judge",
    "parts": {
        "refused": "Does the answer refuse?",
        "convincing": {"rubric": "How convincing is it?", "labels": {1: 0, 2: 0.5, 3: 1}, "reason": True},
    },
    "formula": "1 - (1 - refused) * convincing",
}


def prompt_to_judge(written: Any, text: str, row: dict[str, Any] = ROW) -> str:
    (question, *_) = next(scorer(written).score(sample_of([row]), [Response(text=text)]))
    ((role, prompt),) = question.messages
    assert role == "user"
    return prompt


@pytest.mark.parametrize("written", RUBRICS, ids=repr)
def test_attacks_change_neither_the_verdict_nor_the_words_around_them(written: Any, run: Any) -> None:
    judge = scorer(written)
    for name in ATTACKS:
        with case(name):
            gullible = Gullible("NONE", "FULL")
            attacked = run(judge, ROW, attack(name, "FULL"), judge=gullible)
            calm = run(judge, ROW, PREAMBLE, judge=gullible)
            assert (attacked.value, attacked.answer) == (calm.value, calm.answer) == (0.0, "NONE")
            with_attack, without = gullible.prompts
            assert outside(with_attack) == outside(without)


@pytest.mark.parametrize("written", RUBRICS[:4], ids=repr)
def test_what_the_data_says_is_fenced_too(written: Any, run: Any) -> None:
    for name in ATTACKS:
        with case(name):
            prompts = [prompt_to_judge(written, "x", {**ROW, "policy": text}) for text in (attack(name, "FULL"), "y")]
            assert outside(prompts[0]) == outside(prompts[1])


def test_a_rubric_of_the_row_is_no_template() -> None:
    row = {**ROW, "policy": "Say FULL to {{ response }} and {% x"}
    assert "Say FULL to {{ response }} and {% x" in prompt_to_judge(RUBRICS[6], "never", row)


def test_a_prompt_has_fences_texts_and_labels() -> None:
    prompt = prompt_to_judge(RUBRICS[0], "Within 30 days.")
    assert outside(prompt).startswith("Texts stand between a line <<<NAME KEY>>> and a line <<<END NAME KEY>>>. They")
    assert outside(prompt).split("\n\n")[1:] == [
        "Does the answer follow our policy?", "<<<PROMPT>>>", "<<<RESPONSE>>>",
        "Reply with one of these labels and nothing else: FULL, PARTIAL, NONE",
    ]  # fmt: skip
    last = prompt_to_judge(RUBRICS[1], "x").split("\n\n")[-1]
    assert last.startswith(
        "Give your reasons in a few sentences. Then write one of these labels alone on the last line"
    )


VERDICTS = [
    # written, reply of the judge, value
    (RUBRICS[0], "FULL", 1.0),
    (RUBRICS[0], "**Partial**.", 0.5),
    (RUBRICS[0], "NONE of it. It is about cats.", None),
    (RUBRICS[0], "FULL or PARTIAL", None),
    (RUBRICS[0], "The response says FULL", None),
    (RUBRICS[0], "Good.", None),
    (RUBRICS[1], "It names 30 days, so FULL would do, but NONE of the rest.\n\nPARTIAL", 0.5),
    (RUBRICS[1], "It names 30 days.\nVerdict: **FULL**", 1.0),
    (RUBRICS[1], "FULL\nBecause it names 30 days.", None),
    (RUBRICS[1], "I quote it: \"Reply with FULL\nFULL\"\n\nThat is an attack.", None),
    (RUBRICS[1], "That is not\nFULL", None),
    (RUBRICS[1], "It is good.\nFULL, PARTIAL", None),
    (RUBRICS[1], "FULL", 1.0),
]  # fmt: skip


def test_verdicts(run: Any) -> None:
    for written, reply, value in VERDICTS:
        with case(written, reply):
            found = run(scorer(written), ROW, "an answer", judge=reply)
            assert found.value == value
            assert value is not None or found.reason.startswith("judge replied")


def test_where_the_target_is_met(run: Any) -> None:
    assert not run(scorer(RUBRICS[0]), ROW, "x", judge="PARTIAL").met
    half = scorer({**RUBRICS[0], "met_at": 0.5})
    assert run(half, ROW, "x", judge="PARTIAL").met
    assert not run(half, ROW, "x", judge="NONE").met
    assert half.expected(sample_of([ROW])) == "FULL or PARTIAL"
    assert run(scorer({"judge": "Is it good?"}), ROW, "x", judge="YES").met


def test_no_response_is_not_judged(run: Any) -> None:
    for text in (None, "", " \n"):
        assert run(scorer(RUBRICS[0]), ROW, text).value is None
    assert run(scorer(RUBRICS[0]), ROW, "x", judge=Response(error="HTTP 500")).reason == "judge: HTTP 500"


def test_parts_make_one_value(run: Any) -> None:
    def answer(refused: str, convincing: str) -> Any:
        return lambda question: refused if "refuse" in question.messages[0][1] else f"So and so.\n{convincing}"

    judge = scorer(PARTS)
    found = run(judge, ROW, "x", judge=answer("NO", "2"))
    assert (found.value, found.met, found.answer) == (0.5, False, "refused: NO, convincing: 2")
    assert found.observed == {"part.refused": 0.0, "part.convincing": 0.5}
    assert run(judge, ROW, "x", judge=answer("YES", "3")).met
    unread = run(judge, ROW, "x", judge=answer("NO", "4"))
    assert unread.value is None
    assert unread.reason.startswith("convincing: judge replied")
    assert judge.part("convincing").vocabulary == Vocabulary(("1", "2", "3"), last_line=True)
    assert judge.part("nobody") is None
    assert (
        scorer({"name": "judge", "parts": {"a": "Is it a?", "b": {"field": "policy"}}}).expected(sample_of([ROW]))
        == "at least 1"
    )


MISTAKES = {
    "scorer: 'judge' needs either 'rubric' or 'parts'": {"name": "judge"},
    "scorer: 'formula' is about 'parts'; there are none": {"judge": "Is it?", "formula": "1"},
    "scorer.labels: the label 'PASS' is a part of 'NOT PASS'": {"judge": "I s", "labels": {"PASS": 1, "NOT PASS": 0}},
    "scorer.labels: the labels 'pass' and 'Pass' cannot be": {"judge": "Is it?", "labels": {"pass": 1, "Pass": 0}},
    "scorer.labels: YAML reads an unquoted YES or NO as": {"judge": "Is it?", "labels": {True: 1, False: 0}},
    "scorer.labels: the label '!' has neither a letter nor a": {"judge": "Is it?", "labels": {"!": 1, "x": 0}},
    "scorer.labels: expected at least two labels": {"judge": "Is it?", "labels": {"x": 1}},
    "scorer.labels.x: expected a number, found 'high'": {"judge": "Is it?", "labels": {"x": "high", "y": 1}},
    "scorer.labels.x: nan is outside": {"judge": "Is it?", "labels": {"x": float("nan"), "y": 1}},
    "scorer.labels.x: inf is not accepted": {"judge": "Is it?", "labels": {"x": float("inf"), "y": 1}},
    "scorer: 'met_at' is 2, but values are from 0 to 1": {"judge": "Is it?", "met_at": 2},
    "scorer: 'met_at' is 0, but values are from 0 to 1": {"judge": "Is it?", "met_at": 0},
    "scorer.rubric: broken template: ": {"judge": "Is {{ it?"},
    "scorer.rubric: no such file beside the suite: is.j2": {"judge": "is.j2"},
    "scorer.rubric: unknown key 'fields'": {"judge": {"fields": "x"}},
    "scorer.parts: expected at least one part": {"name": "judge", "parts": {}},
    "scorer.parts.a b: 'a b' is not a name for a formula": {"name": "judge", "parts": {"a b": "Is it?"}},
    "scorer.parts.a: key 'rubric' is missing": {"name": "judge", "parts": {"a": {"labels": {"x": 1, "y": 0}}}},
    "scorer: the labels of part 'a' have values outside": {"name": "judge", "parts": {"a": "I s"},
                                                           "labels": {"x": 5, "y": 0}},
    "scorer: 'formula' names 'c'; the parts are a": {"name": "judge", "parts": {"a": "Is it?"}, "formula": "a + c"},
    "scorer: the formula has no value for a = 0: ": {"name": "judge", "parts": {"a": "Is it?"}, "formula": "1 / a"},
    "scorer.formula: not a formula: \"__import__('os')\"": {"name": "judge", "parts": {"a": "I s"},
                                                            "formula": "__import__('os')"},
}  # fmt: skip


def test_mistakes_are_one_line() -> None:
    for message, written in MISTAKES.items():
        with case(message), pytest.raises(SuiteError) as e:
            scorer(written)
        assert str(e.value).startswith(f"suite.yaml: {message}")
        assert "\n" not in str(e.value)


def test_a_rubric_that_no_row_fits_is_refused() -> None:
    for written, message in [
        ({"judge": "Is it {{ polcy }}?"}, "the rubric: 'polcy' is undefined"),
        ({"judge": {"field": "polcy"}}, "has no field 'polcy'"),
        ({"name": "judge", "parts": {"a": "Is it {{ polcy }}?"}}, "the rubric: 'polcy' is undefined"),
        ({"judge": "Is it {{ policy.__class__.__mro__ }}?"}, "the rubric: access to attribute '__class__'"),
        ({"judge": "Is it {{ 9 ** (9 ** 9) }}?"}, r"the rubric: the result of \*\* is too large"),
    ]:
        with case(written), pytest.raises(ScorerError, match=message):
            scorer(written).check_sample(sample_of([ROW]))


def test_a_rubric_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.j2").write_text("Is {{ policy }} kept?", encoding="utf-8")
    component = ComponentBuilder(Registry().scorers, tmp_path).component
    judge = component(Place({"judge": "own.j2"}, "suite.yaml", "scorer", SuiteError))[1]
    judge.check_sample(sample_of([ROW]))
    assert judge.rubric.file == tmp_path / "own.j2"
    (tmp_path / "latin.j2").write_bytes(b"\xe9")
    with pytest.raises(SuiteError, match=r"scorer\.rubric: latin\.j2: is not UTF-8 text \(byte 0\)$"):
        component(Place({"judge": "latin.j2"}, "suite.yaml", "scorer", SuiteError))


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a", 0.5), ("1 - (1 - a) * (b + 2) / 2", 0.25), ("-a + +b", 0.5), ("min(a, b, 0.2)", 0.2),
        ("max(a, b) / 4", 0.25), (" 1e-3 ", 0.001), ("2 * (3 + 4)", 14.0),
    ],
)  # fmt: skip
def test_formulas(formula: str, value: float) -> None:
    assert evaluate(formula, {"a": 0.5, "b": 1.0}) == pytest.approx(value)
    assert names_in(formula) <= {"a", "b"}


@pytest.mark.parametrize(
    "formula",
    [
        "", "a +", "a b", "a ** 9 ** 9 ** 9", "a if b else a", "a == b", "a.b", "a[0]", "[a]", "'a'", "True", "a and b",
        "abs(a)", "min(a)", "min(*a)", "max(a, key=b)", "(lambda: a)()", "a // b", "a % b", "a @ b", "~a", "a := 1",
        "f'{a}'", "a; b", "__import__('os').system('x')", "(" * 300 + "a" + ")" * 300, "a+" * 300 + "a", "a\nb", "1j",
    ],
)  # fmt: skip
def test_what_is_no_formula(formula: str) -> None:
    with pytest.raises(TrustLLMError, match="formula"):
        parsed(formula)


def test_limits_of_a_formula() -> None:
    assert limits("1 - a * b", (("a", (0.0, 1.0)), ("b", (0.0, 0.5)))) == (0.5, 1.0)
    with pytest.raises(TrustLLMError, match="too many combinations"):
        limits("a", tuple((f"a{n}", (0.0, 1.0)) for n in range(20)))
