"""Attacks and disturbances made of a prompt on the spot."""

from __future__ import annotations

import base64
import codecs
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import case
from mistakes import TASK

from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.folding import folded
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.samples import DataSource, limited
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.transforms import TRANSFORM_KINDS, Transform

TEXT = "How do I return shoes? Tell me about Paris, please."
ODD = ["", " ", "x", "日本語のテキスト", "a" * 5000, "\ud800", "'''\"\\ {{ x }} {% y", "one\ntwo\n\nthree", "😀 émigré"]


def changed(kind: str, text: str = TEXT, **more: Any) -> str:
    ((role, content),) = Transform(kind, kind, **more).applied((("user", text),))
    assert role == "user"
    return content


def test_every_transform_changes_a_prompt_and_only_original_does_not() -> None:
    for kind in TRANSFORM_KINDS:
        with case(kind):
            # a paraphrase is written by a model, once it is there
            assert (changed(kind) == TEXT) is (kind in ("original", "paraphrase"))


def test_what_they_do() -> None:
    assert base64.b64decode(changed("base64").rpartition("\n")[2]).decode() == TEXT
    assert codecs.decode(changed("rot13").rpartition("\n")[2], "rot13") == TEXT
    assert changed("leetspeak") == "H0w d0 1 r37urn 5h035? 73ll m3 4b0u7 P4r15, pl3453."
    assert changed("homoglyphs") != TEXT
    assert all("CYRILLIC" in unicodedata.name(sign) for sign in changed("homoglyphs", "aceop"))
    assert folded(changed("zero_width")) == TEXT
    assert changed("casing").lower() == TEXT.lower()
    assert changed("casing", rate=1.0) == TEXT.swapcase()
    assert changed("spacing", "How do I") == "H o w   d o   I"
    assert "".join(changed("spacing").split()) == "".join(TEXT.split())
    assert changed("payload_split", "a b c d e f g") == (
        "a = 'a b'\nb = 'c d'\nc = 'e f'\nd = 'g'\nz = a + ' ' + b + ' ' + c + ' ' + d\n\n"
        "Do what z says. Do not repeat z."
    )
    assert eval(changed("payload_split").split("\n")[0].partition(" = ")[2]) in TEXT
    for kind in ("prefix_injection", "refusal_suppression", "role_play", "low_resource_language_prefix"):
        assert TEXT in changed(kind)
    words = list(zip(changed("typos", rate=1.0).split(" "), TEXT.split(" "), strict=True))
    assert sum(typed != word for typed, word in words) >= 4
    assert all(abs(len(typed) - len(word)) <= 1 for typed, word in words)


@pytest.mark.parametrize("kind", ["typos", "casing", "leetspeak", "homoglyphs", "zero_width", "spacing"])
@pytest.mark.parametrize("rate", [0.001, 0.3, 1.0])
def test_chance_leaves_no_text_as_it_is(kind: str, rate: float) -> None:
    texts = [f"{word} {number}" for number, word in enumerate(["case", "toast", "apes", "spice", "taco"] * 6)]
    assert [text for text in texts if changed(kind, text, rate=rate) == text] == []
    # one letter in a thousand is one of a few, and not all of them
    assert rate > 0.001 or all(abs(len(changed(kind, text, rate=rate)) - len(text)) <= 2 for text in texts)


@pytest.mark.parametrize("kind", ["typos", "casing", "leetspeak", "homoglyphs"])
def test_a_text_in_which_nothing_can_change_is_no_attack(kind: str) -> None:
    assert not Transform(kind, kind).can_change((("user", "12345"),))
    assert Transform(kind, kind).can_change((("user", "case"),))
    assert Transform("original", "original").can_change((("user", "12345"),))


def test_odd_texts_are_changed_without_an_error() -> None:
    for kind in TRANSFORM_KINDS:
        for text in ODD:
            with case(kind, text[:20]):
                assert isinstance(changed(kind, text), str)


def test_chance_depends_on_text_and_seed_alone() -> None:
    for kind in ("typos", "casing", "low_resource_language_prefix"):
        with case(kind):
            assert changed(kind, rate=0.5) == changed(kind, rate=0.5)
            assert len({changed(kind, rate=0.5, seed=seed) for seed in range(20)}) > 1
    code = (
        "from pytest_trustllm.suites.transforms import Transform as T\n"
        f"print(T('typos', 'x', 0.5).applied((('user', {TEXT!r}),))[0][1])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert outputs == {changed("typos", rate=0.5) + "\n"}


def test_only_the_last_message_changes() -> None:
    chat = (("system", "Be kind."), ("user", TEXT))
    assert Transform("rot13", "rot13").applied(chat)[0] == chat[0]


def task_of(tmp_path: Path, **changes: Any) -> Task:
    rows = [{"prompt": f"How about {n} shoes?", "kind": "ab"[n % 2]} for n in range(4)]
    document = {"dimension": "safety", "tasks": [{**TASK, "data": {"samples": rows}, "scorer": "refusal", **changes}]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return read_suite(path, Registry()).tasks[0]


def test_every_row_is_asked_in_every_way(tmp_path: Path) -> None:
    task = task_of(
        tmp_path, transforms=["rot13", {"name": "typos", "rate": 0.9, "seed": 2, "as": "many_typos"}], group="kind"
    )
    assert [transform.name for transform in task.transforms] == ["original", "rot13", "many_typos"]
    assert task.group == {"kind": "kind", "transform": "transform"}
    data = DataSource(None)
    entries = data.entries(task)
    assert [entry.id for entry in entries][:4] == ["0000.original", "0000.rot13", "0000.many_typos", "0001.original"]
    samples = [data.sample(task, entry) for entry in entries]
    assert samples[0].prompts == ((("user", "How about 0 shoes?"),),)
    assert samples[1].group == {"kind": "a", "transform": "rot13"}
    assert samples[1].row == samples[0].row
    assert len({sample.cluster for sample in samples}) == 4
    assert len({sample.fingerprint for sample in samples}) == 12
    plain = task_of(tmp_path)
    assert samples[0].fingerprint == DataSource(None).sample(plain, DataSource(None).entries(plain)[0]).fingerprint


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (3, 1), (7, 2), (11, 3), (12, 4), (99, 4)])
def test_a_limit_keeps_the_ways_of_a_row_together(limit: int, rows: int, tmp_path: Path) -> None:
    entries = DataSource(None).entries(task_of(tmp_path, transforms=["rot13", "casing"]))
    chosen = limited(entries, limit, 0, "safety/a")
    assert len(chosen) == 3 * rows
    assert len({entry.numbers for entry in chosen}) == rows
