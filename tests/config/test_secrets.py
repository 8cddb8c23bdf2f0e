from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from pytest_trustllm.config.secrets import (
    Scrubber,
    named_secret,
    of_url,
    public_url,
    shown_command,
    without_secrets,
)

SECRET = "p+ss/w0rd é\"'5566"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_found_however_it_is_written(form: str) -> None:
    scrub = Scrubber([SECRET])
    assert scrub(f"sent {form} to you").replace("=", "") == "sent *** to you"
    assert scrub.content(f"sent {form} to you").replace("=", "") == "sent *** to you"


def test_a_secret_that_contains_another_one_is_hidden_whole() -> None:
    assert Scrubber(["abcd", "abcd-efgh"])("x abcd-efgh abcd y") == "x *** *** y"


@pytest.mark.parametrize("key", ["none", "EMPTY", "sk-", "abc", "password", "12345678901234"])
def test_a_key_that_is_a_word_changes_no_answer(key: str) -> None:
    text = f"The answer is {key}, of the others {key}."
    assert Scrubber([key]).content(text) == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--db-password=hush"], ["--db-password=***"]),
        (["--db-password", "hush", "-q"], ["--db-password", "***", "-q"]),
        (["--api-key", "-q"], ["--api-key", "-q"]),
        (["--db-url=postgres://u:hush@h/d"], ["--db-url=postgres://***@h/d"]),
        (["https://h/v1?a=1&sig=hush&b=2"], ["https://h/v1?a=1&sig=***&b=2"]),
        (["-o", "auth_token=hush"], ["-o", "auth_token=***"]),
        (["--trust-model=openai:gpt-4o", "-k", "password"], ["--trust-model=openai:gpt-4o", "-k", "password"]),
        (["--max-tokens=5", "tests/test_keys.py"], ["--max-tokens=5", "tests/test_keys.py"]),
        (["--x=value-of-variable-77"], ["--x=***"]),
        (["--x=sk-abcdefghijklmno"], ["--x=***"]),
        (["--override-ini=db_password=hush"], ["--override-ini=db_password=***"]),
        (["--passphrase=hush"], ["--passphrase=***"]),
        (["--pass=hush", "--pw", "hush"], ["--pass=***", "--pw", "***"]),
        (["--auth", "user", "hush", "-q", "x"], ["--auth", "***", "***", "-q", "x"]),
        (["--env=API_KEY=hush"], ["--env=API_KEY=***"]),
        (["--tokens=hush", "--jwt=hush", "--creds=hush"], ["--tokens=***", "--jwt=***", "--creds=***"]),
        (["--login=u:hush", "--otp=123", "--pat=x"], ["--login=***", "--otp=***", "--pat=***"]),
        (["--x=ghp_abcdefghijklmno1234"], ["--x=***"]),
        (["--x=https://hooks.slack.com/services/T0/B0/hush"], ["--x=https://***"]),
        (
            ["--header=Accept: a/b", "--header=Authorization: Bearer hush"],
            ["--header=Accept: a/b", "--header=Authorization: *** ***"],
        ),
        (['--cfg={"user": "me", "password": "hush"}'], ['--cfg={"user": "me", "password": "***"}']),
        (["--conn=Server=h Password=hush"], ["--conn=Server=h Password=***"]),
        (["--db=//u:hush@h/d"], ["--db=//***@h/d"]),
        (
            ["tests/test_keys.py::test_token[a=b]", "-k", "auth and not key"],
            ["tests/test_keys.py::test_token[a=b]", "-k", "auth and not key"],
        ),
        (
            ["--trust-audit=r.json", "--trust-stop=0.05", "-o", "trust_models=models.yaml"],
            ["--trust-audit=r.json", "--trust-stop=0.05", "-o", "trust_models=models.yaml"],
        ),
    ],
)
def test_a_command_is_recorded_without_secrets(
    monkeypatch: pytest.MonkeyPatch, given: list[str], shown: list[str]
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "value-of-variable-77")
    assert shown_command(given) == shown


def test_a_file_behind_a_secret_option_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test_a.py").touch()
    assert shown_command(["--db-token", "hush", "test_a.py::test_b"]) == ["--db-token", "***", "test_a.py::test_b"]


def test_an_address_has_a_public_part() -> None:
    url = "https://us3r:p%40ss@host:8000/v1?version=2024&sig=q1w2e3&long=0123456789abc#f"
    assert public_url(url) == "https://host:8000/v1"
    assert of_url(url) == ["us3r", "p%40ss", base64.b64encode(b"us3r:p@ss").decode(), "q1w2e3", "0123456789abc"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("m?api_key=hush", "api_key"),
        ("m?x=1&sig=hush", "sig"),
        ("http://u:p@host/v1", "password"),
        ("meta-llama/Llama-2-7b-chat-hf", None),
        ("m?temperature=1", None),
        ("deployments/keys", None),
    ],
)
def test_a_name_that_holds_a_secret_is_known(text: str, name: str | None) -> None:
    assert named_secret(text) == name


def test_json_is_recorded_without_secrets() -> None:
    given = {"a": [{"api_key": "hush", "n": 1}], "password": ["x"], "text": "key"}
    assert without_secrets(given) == {"a": [{"api_key": "***", "n": 1}], "password": ["***"], "text": "key"}
