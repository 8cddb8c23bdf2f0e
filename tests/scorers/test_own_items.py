"""Scorers for items of one's own: tables of responses, attacks among them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cases import case
from scored_sample import sample_of

from pytest_trustllm.config.documents import Place
from pytest_trustllm.errors import ScorerError, SuiteError
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.languages import LANGUAGES, _identifier
from pytest_trustllm.scorers.numbers import read_number
from pytest_trustllm.suites.construction import ComponentBuilder
from pytest_trustllm.types import Response, Score

MET, MISSED, NONE = 1.0, 0.0, None
ZERO_WIDTH = "hun\u200bter2"


def scorer(written: Any) -> Any:
    """Return the scorer that a suite writes so."""
    component = ComponentBuilder(Registry().scorers, Path()).component
    return component(Place(written, "suite.yaml", "scorer", SuiteError))[1]


CASES: list[tuple[Any, dict[str, Any], str, float | None]] = [
    # as the suite writes it, the row, the response, the value
    ("equals", {"label": "Paris"}, "**paris**.", MET),
    ("equals", {"label": "Paris"}, "“Paris”", MET),
    ("equals", {"label": "Paris"}, "Paris, France", MISSED),
    ("equals", {"label": "Paris"}, "Not Paris", MISSED),
    ("equals", {"label": "Paris"}, "Paris\n\nParis", MISSED),
    ("equals", {"label": ["Paris", "Lutetia"]}, "lutetia!", MET),
    ("equals", {"label": 30}, "30", MET),
    ("equals", {"label": 30}, "30.", MET),
    ("equals", {"label": "..."}, "...", MET),
    ("equals", {"label": "..."}, "anything", MISSED),
    ({"equals": "Dear {{ name }}"}, {"name": "Ada"}, "dear ADA", MET),
    ({"equals": "OK", "exact": True}, {}, "OK", MET),
    ({"equals": "OK", "exact": True}, {}, "OK.", MISSED),
    ({"equals": "OK", "exact": True}, {}, "OK\n", MISSED),
    ("equals", {"label": "x"}, " \n", NONE),
    # contains
    ({"name": "contains", "all": ["30 days", "refund"]}, {}, "A *refund* takes 30\ndays.", MET),
    ({"name": "contains", "all": ["30 days", "refund"]}, {}, "30 days", MISSED),
    ({"name": "contains", "any": ["30 days", "a month"]}, {}, "within a month", MET),
    ({"name": "contains", "any": "a month"}, {}, "within amonth", MISSED),
    ({"name": "contains", "any": "{{ days }}"}, {"days": 30}, "30 days", MET),
    ({"name": "contains", "any": "{{ days }}"}, {"days": 30}, "130 days, 3.30 or -30", MISSED),
    ({"name": "contains", "none": ["{{ secret }}"]}, {"secret": "hunter2"}, "no idea", MET),
    ({"name": "contains", "none": ["{{ secret }}"]}, {"secret": "hunter2"}, "it is `HUNTER2`!", MISSED),
    ({"name": "contains", "none": ["{{ secret }}"]}, {"secret": "hunter2"}, ZERO_WIDTH, MISSED),
    ({"name": "contains", "none": ["{{ secret }}"]}, {"secret": "hunter2"}, "ｈｕｎｔｅｒ２", MISSED),
    ({"name": "contains", "none": ["{{ secret }}"]}, {"secret": "hunter2"}, "hunter2x", MET),
    ({"name": "contains", "none": "{{ secret }}", "words": False}, {"secret": "hunter2"}, "hunter2x", MISSED),
    ({"name": "contains", "none": "{{ secret }}"}, {"secret": "{{ 7 * 7 }}"}, "49", MET),
    ({"name": "contains", "none": "x"}, {}, "", NONE),
    ({"name": "contains", "any": "OK", "case": True}, {}, "ok", MISSED),
    ({"name": "contains", "all": "a+b", "none": "c"}, {}, "a+b", MET),
    ({"name": "contains", "all": "a+b", "none": "c"}, {}, "aab", MISSED),
    # regex
    ({"regex": r"\bORD-\d{4}\b"}, {}, "Your order ORD-1234.", MET),
    ({"regex": r"\bORD-\d{4}\b"}, {}, "Your order ORD-12345.", MISSED),
    ({"regex": r"ORD-\d{4}", "full": True}, {}, " ORD-1234\n", MET),
    ({"regex": r"ORD-\d{4}", "full": True}, {}, "ORD-1234 and more", MISSED),
    ({"regex": r"ORD-\d{4}$", "full": True}, {}, "x\nORD-1234", MISSED),
    ({"regex": r"\d{16}", "forbid": True}, {}, "no number", MET),
    ({"regex": r"\d{16}", "forbid": True}, {}, "1234567812345678", MISSED),
    ({"regex": r"\d{16}", "forbid": True}, {}, "", NONE),
    ({"regex": "yes", "case": False}, {}, "YES", MET),
    ({"regex": "(?s)a.b"}, {}, "a\nb", MET),
    ({"regex": r"(?<!not )safe(?! not)"}, {}, "not safe", MISSED),
    ({"regex": r"(x+x+)+y"}, {}, "x" * 5000, NONE),
    ({"regex": r"(x+x+)+y", "forbid": True}, {}, "x" * 5000, NONE),
    # json
    ("json", {}, '{"a": [1, 2.5, null]}', MET),
    ("json", {}, 'Here it is:\n\n```json\n{"a": 1}\n```\nAnything else?', MET),
    ({"name": "json", "fence": False}, {}, '```json\n{"a": 1}\n```', MISSED),
    ("json", {}, '```\n{"a": 1}\n```\n```\n{"a": 2}\n```', MISSED),
    ("json", {}, '{"a": 1} {"a": 2}', MISSED),
    ("json", {}, "{'a': 1}", MISSED),
    ("json", {}, '{"a": NaN}', MISSED),
    ("json", {}, '{"verdict": "met", "verdict": "missed"}', MISSED),
    ("json", {}, "[" * 100_000, MISSED),
    ("json", {}, "9" * 6000, MISSED),
    ("json", {}, "I cannot do that.", MISSED),
    ("json", {}, "\ufeff{}", MISSED),
    ("json", {}, "", NONE),
    ({"json": {"type": "object", "required": ["a"]}}, {}, '{"a": 1}', MET),
    ({"json": {"type": "object", "required": ["a"]}}, {}, '{"b": {"a": 1}}', MISSED),
    ({"json": {"type": "object", "required": ["a"]}}, {}, '"{\\"a\\": 1}"', MISSED),
    ({"json": {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}}, {}, "[1, 2]", MET),
    ({"json": {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}}, {}, '[1, "2"]', MISSED),
    ({"json": {"pattern": "(x+x+)+y"}}, {}, f'"{"x" * 5000}"', NONE),
    ({"json": {"patternProperties": {"(x+x+)+y": True}}}, {}, '{"%s": 1}' % ("x" * 5000), NONE),
    ({"json": {"patternProperties": {"^a": {"type": "null"}}}}, {}, '{"ab": 1}', MISSED),
    ({"json": {"patternProperties": {"^a": True}, "additionalProperties": False}}, {}, '{"ab": 1}', MET),
    ({"json": {"patternProperties": {"^a": True}, "additionalProperties": False}}, {}, '{"b": 1}', MISSED),
    ({"json": {"properties": {"a": True}, "additionalProperties": {"type": "null"}}}, {}, '{"a": 1, "b": 2}', MISSED),
    # number
    ("number", {"label": 42}, "12 + 30 = 42", MET),
    ("number", {"label": "42"}, "There are 12 apples and 30 pears.\n\nTotal: 42 fruits", MET),
    ("number", {"label": 42}, "It is not 42.", MISSED),
    ("number", {"label": 42}, "41 or 42", MISSED),
    ("number", {"label": 42}, "The answer is 41. No, the answer is 42.", MISSED),
    ("number", {"label": 42}, "no idea", MISSED),
    ("number", {"label": 42, "prompt": "Is it 42? Or is it 41, or 40?"}, "Is it 42? Or is it 41, or 40?", MISSED),
    ("number", {"label": 1234.5}, "$1,234.50", MET),
    ({"name": "number", "decimal": "comma"}, {"label": 1234.5}, "1.234,50 Euro", MET),
    ({"number": 0.2, "tolerance": 0.1}, {}, "0.3", MET),
    ({"number": 0.2, "tolerance": 0.1}, {}, "0.31", MISSED),
    ({"number": 200, "relative": 0.05}, {}, "190", MET),
    ({"number": -5}, {}, "−5 °C", MET),
    ({"number": 5}, {}, "-5", MISSED),
    ({"number": 5}, {}, "5 million", MISSED),
    ({"number": 5e6}, {}, "5 million", MET),
    ({"number": 5}, {}, "9" * 6000, MISSED),
    ({"number": 5}, {}, "5 " * 50_000, MET),
    ({"number": 5}, {}, "", NONE),
    # language
    ({"language": "de"}, {}, "Sie können Ihre Schuhe innerhalb von 30 Tagen zurückgeben.", MET),
    ({"language": "de"}, {}, "You can return your shoes within thirty days.", MISSED),
    ({"language": "de"}, {}, "Deutsch. de. German. " + "You can return your shoes within thirty days. " * 5, MISSED),
    ({"language": "en"}, {}, "Use this:\n```python\nfür = 'die Schuhe zurückgeben'\n```\nIt works for all shoes.", MET),
    ("language", {"language": "zh"}, "您可以在三十天内退货。", MET),
    ("language", {"language": "ar"}, "يمكنك إرجاع الحذاء خلال ثلاثين يومًا", MET),
    ({"language": "de"}, {}, "OK", NONE),
    ({"language": "de"}, {}, "1234567", NONE),
    ({"language": "de"}, {}, "", NONE),
    # length
    ({"name": "length", "max": 3}, {}, "one two three", MET),
    ({"name": "length", "max": 3}, {}, "one two three four", MISSED),
    ({"name": "length", "min": 2, "max": 3}, {}, "one", MISSED),
    ({"name": "length", "max": 3}, {}, "不能退货", MISSED),
    ({"name": "length", "max": 2}, {}, "don't - panic!", MET),
    ({"name": "length", "max": 5, "unit": "characters"}, {}, " hello\n", MET),
    ({"name": "length", "max": 2, "unit": "lines"}, {}, "a\n\nb", MET),
    ({"name": "length", "max": 2, "unit": "lines"}, {}, "a\nb\u2028c", MISSED),
    ({"name": "length", "max": 9}, {}, "", NONE),
    # others inside
    ({"all_of": [{"name": "contains", "any": "a"}, {"name": "contains", "none": "b"}]}, {}, "a", MET),
    ({"all_of": [{"name": "contains", "any": "a"}, {"name": "contains", "none": "b"}]}, {}, "a b", MISSED),
    ({"any_of": [{"regex": "^a"}, {"regex": "z$"}]}, {}, "b z", MET),
    ({"any_of": [{"regex": "^a"}, {"regex": "z$"}]}, {}, "b", MISSED),
    ({"any_of": [{"regex": "^x"}, {"regex": "(x+x+)+y"}]}, {}, "x" * 5000, NONE),
    ({"all_of": [{"not": {"regex": "a"}}]}, {}, "", NONE),
    ({"not": {"regex": "a"}}, {}, "b", MET),
    ({"not": {"regex": "a"}}, {}, "a", MISSED),
    ({"not": {"regex": "a"}}, {}, " ", NONE),
    ({"not": {"regex": "(x+x+)+y"}}, {}, "x" * 5000, NONE),
    ({"not": {"not": {"regex": "a"}}}, {}, "a", MET),
]  # fmt: skip


def test_table(run: Any) -> None:
    for written, row, text, value in CASES:
        with case(written, row, text[:40]):
            found = run(scorer(written), row, text)
            assert found.value == value
            assert found.value is None or found.met == bool(value)
            assert found == run(scorer(written), row, text)


def test_no_response_is_no_score(run: Any) -> None:
    for written in {repr(written): written for written, *_ in CASES}.values():
        with case(written):
            row = {"label": "1", "language": "de", "days": 1, "secret": "x", "name": "x", "reference": "x"}
            assert run(scorer(written), row, None).value is None


@pytest.mark.parametrize("pattern", [r"(x+x+)+y", r"(.*?,){30}P", r"(?=(a+)+b)"])
def test_no_pattern_takes_longer_than_its_limit(pattern: str, run: Any) -> None:
    text = {"(x": "x" * 5000, "(.": "1,2,3,4,5,6,7,8,9," * 200, "(?": "a" * 3000}[pattern[:2]]
    started = time.perf_counter()
    found = run(scorer({"regex": pattern}), {}, text)
    assert time.perf_counter() - started < 20  # on a busy machine; without a limit it would take years
    assert (found.value, found.reason) == (None, f"the pattern {pattern!r} took longer than 1 s")


@pytest.mark.parametrize(
    ("written", "row", "message"),
    [
        ("equals", {}, "the row has no field 'label', which its scorer needs; it has "),
        ("equals", {"label": []}, "has an entry that is not a text"),
        ("equals", {"label": ["x", 1]}, "has an entry that is not a text"),
        ("equals", {"label": True}, "is true, not a label (YAML reads an unquoted yes"),
        ({"equals": "{{ x }}"}, {}, "template '{{ x }}': 'x' is undefined"),
        ({"equals": "{{ x }}"}, {"x": " "}, "the scorer's text '{{ x }}' is empty for this row"),
        ({"name": "contains", "any": ["a", "{{ x }}"]}, {}, "template '{{ x }}': 'x' is undefined"),
        ({"not": {"name": "contains", "any": "{{ x }}"}}, {}, "template '{{ x }}': 'x' is undefined"),
        ({"all_of": [{"name": "contains", "any": "{{ x }}"}]}, {}, "template '{{ x }}': 'x' is undefined"),
        ("number", {"label": "many"}, "the row's 'label' is 'many', expected a number"),
        ("language", {"language": "German"}, "the row's 'language' is 'German', which is no language"),
        ("similarity", {}, "the row has no field 'reference'"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused(written: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ScorerError) as e:
        scorer(written).check_sample(sample_of([row]))
    assert message in str(e.value)
    assert "\n" not in str(e.value)


EXPECTED = [
    ("equals", {"label": ["a", "b"]}, "a or b"),
    ({"name": "contains", "any": "{{ x }}", "none": ["b"]}, {"x": "a"}, "any of 'a'; none of 'b'"),
    ({"regex": "a", "forbid": True}, {}, "no match of a"),
    ({"json": {"type": "null"}}, {}, 'JSON that meets {"type": "null"}'),
    ({"number": 5, "tolerance": 0.5}, {}, "5 ± 0.5"),
    ({"name": "length", "max": 5}, {}, "at most 5 words"),
    ({"all_of": [{"equals": "a"}, {"not": {"regex": "b"}}]}, {}, "a and not: a match of b"),
]


def test_people_see_what_is_expected() -> None:
    for written, row, expected in EXPECTED:
        with case(written):
            assert scorer(written).expected(sample_of([row])) == expected


def test_what_metrics_get() -> None:
    def score(written: Any, text: str) -> Score:
        return scorer(written).score(sample_of([{}]), [Response(text=text)])

    assert score({"name": "length", "max": 3}, "a b").observed == {"length": 2}
    assert score({"number": 3}, "four is 4").observed == {"number": 4.0}
    assert score({"language": "en"}, "This is a plain English sentence.").observed == {"language": "en"}


def test_places_of_numbers() -> None:
    for text, number in {
        "\\boxed{7} is what 3 and 4 give": 7.0,
        '{"answer": 7, "steps": 3}': 7.0,
        "3 and 4\n#### 7": 7.0,
        "5 - 3 = 2": 2.0,
        "between 10-20": None,
        "1.5e3": 1500.0,
        "v2 and x_1": None,
        "3.14.15": None,
        "- 5": 5.0,
        "٤٢": 42.0,
        "１２": 12.0,
        ".5": 0.5,
    }.items():
        with case(text):
            assert read_number(text)[0] == number


def test_languages_are_those_of_the_library() -> None:
    assert set(_identifier().labels) >= LANGUAGES


def test_similarity_is_that_of_the_closest_text(run: Any) -> None:
    vectors = {"shoes": (1.0, 0.0), "boots": (0.8, 0.6), "cars": (0.0, 1.0)}

    def embed(question: Any) -> Response:
        return Response(vector=vectors[question.messages[0][1]])

    found = run(scorer("similarity"), {"reference": ["cars", "boots"]}, "shoes", embedder=embed)
    assert (found.value, found.met, found.answer) == (pytest.approx(0.8), True, "0.800")
    found = run(scorer({"name": "similarity", "text": "cars"}), {}, "shoes", embedder=embed)
    assert (found.value, found.met) == (0.0, False)
    failed = run(scorer("similarity"), {"reference": "cars"}, "shoes", embedder=Response(error="HTTP 500"))
    assert (failed.value, failed.reason) == (None, "embedder: HTTP 500")
    assert run(scorer("similarity"), {"reference": "cars"}, " ").value is None
