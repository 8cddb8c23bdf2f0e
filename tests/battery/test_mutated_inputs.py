"""Suites, thresholds, models files, labels and judge checks that were changed, cut or written by something else.

Whoever reads one gets its content, or one error that says in one printable line which file is wrong; nothing else is
raised, and nothing takes long.
"""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labelled_run
import pytest
import yaml
from test_mutated_runs import JUNK, WHOLES, changed, walk

import pytest_trustllm.cli as cli
from pytest_trustllm.errors import TrustLLMError
from pytest_trustllm.gates.thresholds import read_thresholds
from pytest_trustllm.models.base import LoadSettings
from pytest_trustllm.models.catalogue import list_entries, provider_of, resolve
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites, read_suite
from pytest_trustllm.suites.samples import open_data

ROOT = Path(__file__).parents[2]
YAML_JUNK: list[Any] = [
    *JUNK,
    "{{ 7 * 7 }}",
    "{{ range(10**9) | list }}",
    "{% for x in y %}",
    "(a+)+$",
    "(",
    "a.b:c",
    "../x",
]
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "!!",
    "|",
    ">",
    "#",
    '"',
    "'",
    "\t",
    "\0",
    "\ufeff",
    "%",
]
MODELS = """
bot: {provider: openai, model: m, base_url: http://127.0.0.1:9/v1, max_concurrency: 4, deadline: 60}
own: {provider: python, model: app:answer}
local: {provider: hf, model: gpt2, revision: main, generation: {temperature: 0, max_new_tokens: 5}}
server: {provider: server, model: m, command: [x, "{port}"], replicas: 2, startup_timeout: 10}
"""


def suite_sources() -> list[Path]:
    return [*sorted((ROOT / "suites").glob("*.yaml")), *sorted((ROOT / "examples").glob("*/suites/*.yaml"))]


GATE = ("gate", "r.json", "--thresholds", "gates", "--judge-check")


def read_suite_and_samples(path: Path) -> None:
    suite = read_suite(path, Registry(), root=path.parent)
    source = open_data("sample", path.parent)
    for task in suite.tasks:
        source.entries(task)


def read_gates(path: Path) -> None:
    read_thresholds(path, SHIPPED, root=path.parent)


def read_models(path: Path) -> None:
    for entry in list_entries(path, Registry()):
        if entry.name not in SHIPPED_MODELS:
            resolve(entry.name, user_file=path, registry=Registry())


SHIPPED_MODELS = {entry.name for entry in list_entries(None, Registry())}
SHIPPED = find_suites([], Registry(), root=ROOT)
READERS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "suites": (read_suite_and_samples, [path.read_text("utf-8") for path in suite_sources()]),
    "thresholds": (read_gates, [path.read_text("utf-8") for path in sorted((ROOT / "thresholds").glob("*.yaml"))]),
    "models": (read_models, [MODELS]),
}


def check(read: Callable[[Path], None], path: Path, what: str) -> bool:
    """Return whether a file was read; fail if it was neither read nor refused as it should be."""
    start = time.process_time()
    try:
        read(path)
    except TrustLLMError as e:
        said = str(e)
        assert len(said) <= 2000, (what, said)
        assert said.isprintable(), (what, said)
        assert path.name in said, (what, said)
        return False
    except Exception as e:  # noqa: BLE001 - whatever it is, it must not happen
        pytest.fail(f"{what}: {type(e).__name__}: {e}")
    finally:
        assert time.process_time() - start < 5, what
    return True


def with_junk(text: str, dice: random.Random) -> tuple[str, str]:
    """Return a document with one value replaced or removed, and what was done."""
    document = yaml.safe_load(text)
    path = dice.choice(list(walk(document)))
    junk = dice.choice([..., *YAML_JUNK])
    return json.dumps(changed(document, path, junk)), f"{path} = {junk!r:.40}"


def with_noise(text: str, dice: random.Random) -> tuple[str, str]:
    """Return a text with pieces of YAML put in, taken out or repeated, and what was done."""
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(text))
        cut = text[at : at + dice.randint(0, 12)]
        text = text[:at] + dice.choice(["", dice.choice(PIECES), cut * 2]) + text[at + len(cut) :]
    return text, f"noise in {text[:60]!r}"


def mutants(sources: list[str], count: int) -> Iterator[tuple[str, str]]:
    dice = random.Random(count)
    for _ in range(count):
        yield dice.choice([with_junk, with_noise])(dice.choice(sources), dice)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_whole_is_read(tmp_path: Path, kind: str) -> None:
    read, sources = READERS[kind]
    path = tmp_path / "x.yaml"
    for text in sources[:6]:
        path.write_text(text, encoding="utf-8")
        if "extends" not in text and ".jsonl" not in text:
            assert check(read, path, text[:60])


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", READERS)
def test_a_changed_file(tmp_path: Path, kind: str, count: int) -> None:
    read, sources = READERS[kind]
    path = tmp_path / "x.yaml"
    refused = 0
    for text, what in mutants(sources, count):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        refused += not check(read, path, what)
    assert refused > count // 4


@pytest.mark.parametrize("what", WHOLES)
@pytest.mark.parametrize("kind", READERS)
def test_a_file_that_is_something_else(tmp_path: Path, kind: str, what: str) -> None:
    read, sources = READERS[kind]
    path = tmp_path / "x.yaml"
    path.write_bytes(WHOLES[what](sources[0].encode()))
    check(read, path, what)


LONG = "9" * 5000
NAMES = {
    "data": "dimension: safety\ntasks: [{name: t, scorer: contains, metrics: [accuracy], "
    f"data: {{samples: {LONG}}}}}]\n",
    "a rubric": "dimension: safety\ntasks: [{name: t, data: {samples: [{prompt: a}]}, metrics: [mean], scorer: "
    f"{{name: judge, rubric: {LONG}.txt, labels: {{a: 1, b: 0}}}}}}]\n",
    "extends": f"dimension: safety\nextends: {LONG}\ngates: []\n",
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_no_file_can_have(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(NAMES[what], encoding="utf-8")
    assert not check(read_gates if what == "extends" else read_suite_and_samples, path, what)


@pytest.mark.parametrize("name", ["hf:./{}", "replay:{}.jsonl", "llamacpp:/{}.gguf", "hf:{}", "{}"])
def test_a_name_that_no_model_can_have(name: str) -> None:
    def load() -> None:
        spec = resolve(name.format(LONG), user_file=None, registry=Registry())
        provider_of(spec, Registry()).check(spec)
        provider_of(spec, Registry()).load(spec, LoadSettings())

    with pytest.raises(TrustLLMError) as e:
        load()
    assert len(str(e.value)) <= 2000


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Make the current directory one with a saved run, labels of it, and the check that they give."""
    labelled_run.write_run(tmp_path)
    (tmp_path / "gates").mkdir()
    gate = "{metric: harm.refusal_rate, at_least: 0.2, scoring: corrected}"
    (tmp_path / "gates" / "safety.yaml").write_text(f"dimension: safety\ngates: [{gate}]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n2\n" * 15))
    assert cli.main(["label", "r.json", "--task", "harm", "-n", "30", "-o", "labels.jsonl"]) == 0
    assert cli.main(["judge-check", "--results", "r.json", "labels.jsonl", "-o", "check.json"]) == 0
    capsys.readouterr()


def call(capsys: pytest.CaptureFixture[str], what: str, *args: str) -> int:
    """Return the exit status of a command that must not raise or print what a terminal obeys."""
    try:
        status = cli.main(list(args))
    except Exception as e:  # noqa: BLE001 - whatever it is, it must not happen
        pytest.fail(f"{what}: {type(e).__name__}: {e}")
    found = capsys.readouterr()
    text = found.out + found.err
    assert status in (0, 1, 4), (what, text)
    assert all(character.isprintable() or character in "\n\t" for character in text), (what, text)
    return status


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_changed_labels(capsys: pytest.CaptureFixture[str], count: int) -> None:
    lines = Path("labels.jsonl").read_text().splitlines()
    dice = random.Random(count)
    refused = 0
    for _ in range(count):
        text, what = dice.choice([with_junk, with_noise])(lines[0], dice)
        Path("x.jsonl").write_text("\n".join([text, *lines[1:], ""]), encoding="utf-8", errors="surrogatepass")
        refused += call(capsys, what, "judge-check", "--results", "r.json", "x.jsonl", "-o", "x.json") == 4
    assert refused > count // 4


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_changed_judge_check(capsys: pytest.CaptureFixture[str], count: int) -> None:
    whole = Path("check.json").read_text()
    assert call(capsys, "whole", *GATE, "check.json") != 4
    dice = random.Random(count)
    refused = 0
    for _ in range(count):
        text, what = dice.choice([with_junk, with_noise])(whole, dice)
        Path("x.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        refused += call(capsys, what, *GATE, "x.json") == 4
    assert refused > count // 4
