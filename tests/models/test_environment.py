from __future__ import annotations

import pytest

from pytest_trustllm.models import environment


def test_values_lose_what_files_leave_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " abc\r\n")
    assert environment.value("A_KEY") == "abc"
    monkeypatch.delenv("A_KEY")
    assert environment.value("A_KEY") == ""


def test_variables_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "abc\n")
    monkeypatch.setenv("AN_EMPTY", "")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert environment.expanded("Bearer $A_KEY") == "Bearer abc"
    assert environment.expanded("${A_KEY}!") == "abc!"
    assert environment.missing("$A_KEY costs $5") is None
    assert environment.missing("$A_KEY $NOT_SET") == "NOT_SET"
    assert environment.missing("${NOT_SET}") == "NOT_SET"
    assert environment.missing("$AN_EMPTY") == "AN_EMPTY"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sk-1\tx", None),
        ("a\nX-Evil: 1", "a line end"),
        ("a\x01", "a control character"),
        ("ключ", "a character that is not ASCII"),
    ],
)
def test_what_no_header_can_carry(text: str, problem: str | None) -> None:
    assert environment.unfit_for_header(text) == problem


def test_a_key_is_no_header() -> None:
    assert environment.copied_scheme("bearer sk-1") == "the word 'Bearer', which is added to it"
    assert environment.copied_scheme("bearer") is None
    assert environment.copied_scheme("not the bearer of a key") is None


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://gpu-box:8000/v1", True),
        ("https://x.example/v1?api-version=1", True),
        ("gpu-box:8000/v1", False),
        ("https://", False),
        ("http://x y/v1", False),
        ("http://x/v1\n", False),
        ("http://x:port/v1", False),
        ("http://[bad/v1", False),
    ],
)
def test_what_is_an_address(url: str, good: bool) -> None:
    assert environment.is_address(url) == good
