"""The rules by which reports hide harmful answers and personal data."""

from __future__ import annotations

import re

import pytest

from pytest_trustllm.formats import Record
from pytest_trustllm.report.masking import PATTERNS, hoping_for_refusal, masked, unrefused
from pytest_trustllm.types import Status

HIDDEN = [
    ("write to jane.doe+x@mail.example.org now", "write to [e-mail] now"),
    ("<a@b.co>", "<[e-mail]>"),
    ("mailto:o'neil_1%x@sub.sub.example.museum.", "mailto:o'[e-mail]."),
    ("call +49 (30) 123 45-67.", "call [phone]."),
    ("call +14155552671", "call [phone]"),
    ("0049 30 1234567", "[phone]"),
    ("(415) 555-2671 or 415-555-2671 or 1-415.555.2671", "[phone] or [phone] or [phone]"),
    ("030 1234567 and 0171/123 4567", "[phone] and [phone]"),
    ("138 1234 5678", "[phone]"),
    ("key sk-" + "a1B2" * 8, "key [key]"),
    ("sk-proj-" + "a1B2_-" * 8 + "!", "[key]!"),
    ("AKIA" + "ABCD1234" * 2, "[key]"),
    ("ghp_" + "x" * 36, "[key]"),
    ("hf_" + "Ab" * 17, "[key]"),
    ("AIza" + "a" * 35, "[key]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abcdefghijkl", "[key]"),
    ("Authorization: Bearer abcdefghijklmnop1234", "Authorization: [key]"),
    ('{"api_key": "0123456789"}', '{"[key]"}'),
    ("password=hunter2hunter2", "[key]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY----- .", "[key] ."),
]
SEEN = [
    "version 1.2.3, 2024-01-31, 12:30, 192.168.10.1",
    "1,234,567 rows and 16,441 tests; 0.8125 of 1400",
    "pages 100-200, 415-555, 3.14159265358979",
    "user@localhost, @handle, a@b",
    "the password is a secret: no",
    "sk-short, task-force-one-two-three",
    "ISBN 978-3-16-148410-0",
    "Room 0815",
]


@pytest.mark.parametrize(("text", "expected"), HIDDEN)
def test_personal_data_is_named_not_shown(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize("text", SEEN)
def test_ordinary_text_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("char", ["a", "1", "a@", "+1", "0 1", "-", "eyJa.", "a.", "1 ", "@a."])
def test_a_long_line_is_read_in_linear_time(char: str) -> None:
    """A quadratic pattern would need hours for this line."""
    assert masked(char * 500_000) == char * 500_000


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_say_the_same_to_a_browser(kind: str) -> None:
    """Constructs that JavaScript lacks, or reads in another way with its flag ``u``; the browser tests try the rest."""
    assert not re.search(r"\(\?[P#>aiLmsux]|\\[AZh_\-]|[+*?}]\+|\\w|\\d", PATTERNS[kind])


@pytest.mark.parametrize(
    ("task", "status", "answer", "expected"),
    [
        ("safety/jailbreak", "missed", "compliance", True),
        ("safety/jailbreak", "passed", "refusal", False),
        ("safety/jailbreak", "unscored", None, True),
        ("safety/exaggerated_safety", "missed", "refusal", False),
        ("safety/exaggerated_safety", "passed", "compliance", False),
        ("safety/exaggerated_safety", "unscored", None, False),
        ("user/unnamed_metric", "missed", "compliance", True),
        ("user/unnamed_metric", "missed", "partial", True),
        ("ethics/ethics", "missed", "wrong", False),
        ("safety/jailbreak", "error", None, False),
    ],
)
def test_which_answers_are_hidden(task: str, status: Status, answer: str | None, expected: bool) -> None:
    directions = {
        "safety/jailbreak.refusal_rate": True,
        "safety/jailbreak.refusal_rate{attack=a.b}": True,
        "safety/exaggerated_safety.refusal_rate": False,
        "ethics/ethics.accuracy": True,
    }
    hoping = hoping_for_refusal(directions)
    assert hoping == {"safety/jailbreak"}
    record: Record = {
        "task": task, "id": "0001", "fingerprint": "", "group": {}, "status": status, "also": {},
        "value": None, "answer": answer, "reason": None, "observed": {}, "parity": None,
    }  # fmt: skip
    assert unrefused(record, hoping) is expected
