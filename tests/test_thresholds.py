"""Threshold files: what they inherit, what they say for one model, which gates a tag chooses, and every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from validators import VALIDATORS

from pytest_trustllm.errors import GateError
from pytest_trustllm.gates import Gate, Policy
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites import Suite, find_suites
from pytest_trustllm.thresholds import Tags, Thresholds, find_thresholds, read_tags, read_thresholds

SUITE = """
dimension: safety
tasks:
  - {name: echo, data: {samples: [{prompt: x, kind: a}]}, group: kind, scorer: refusal, metrics: [refusal_rate,
     {name: mean, lower_is_better: true}]}
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def suites(write: Write, tmp_path: Path) -> list[Suite]:
    write("suites/mine.yaml", SUITE)
    return find_suites([tmp_path / "suites"], Registry(), root=tmp_path, builtin=False)


@pytest.fixture
def read(write: Write, suites: list[Suite], tmp_path: Path) -> Callable[[str], Thresholds]:
    def read(text: str) -> Thresholds:
        path = write("thresholds/safety.yaml", f"dimension: safety\n{text}")
        found = read_thresholds(path, suites, root=tmp_path)
        VALIDATORS["thresholds"].validate(yaml.safe_load(path.read_text(encoding="utf-8")))  # editors accept it too
        return found

    return read


def bounds(gates: list[Gate]) -> dict[str, float]:
    return {g.name: g.bound for g in gates}


def test_own_gates_replace_inherited_ones_of_the_same_metric_and_kind(
    read: Callable[[str], Thresholds], write: Write
) -> None:
    write(
        "thresholds/base/safety.yaml",
        "dimension: safety\n"
        "gates:\n"
        "  - {metric: echo.refusal_rate, at_least: 0.8, confidence: 0.9, tags: [nightly]}\n"
        "  - {metric: echo.refusal_rate, max_drop: 0.1}\n"
        "  - {metric: score, at_least: 0.5}\n"
        "coverage: {min_scored: 0.5, min_paired: 0.4}\n"
        "on_partial: judge\n",
    )
    found = read(
        "extends: base/safety.yaml\n"
        "gates:\n"
        "  - {metric: echo.refusal_rate, at_least: 0.9}\n"
        "  - {metric: echo.mean, at_most: 0.2}\n"
        "coverage: {min_scored: 0.6}\n"
        "on_inconclusive: warn\n"
    ).gates("any")
    assert bounds(found) == {
        "echo.refusal_rate[at_least]": 0.9,
        "echo.refusal_rate[max_drop]": 0.1,
        "score[at_least]": 0.5,
        "echo.mean[at_most]": 0.2,
    }
    assert {g.file for g in found} == {"thresholds/safety.yaml"}
    assert {g.policy for g in found} == {Policy(0.6, 0.4, "judge", "warn", "fail")}
    assert (found[0].confidence, found[0].tags) == (None, ())  # replaced whole, not merged


def test_a_gate_knows_its_line_unless_another_file_says_it(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base.yaml", "dimension: safety\n\ngates: [{metric: score, at_least: 0.5}]\n")
    found = read(
        "extends: base.yaml\ngates:\n  # why\n  - {metric: echo.refusal_rate, at_least: 0.5}\n"
        "models:\n  m:\n    gates:\n      - metric: echo.mean\n        at_most: 0.5\n"
    )
    assert {g.metric: g.line for g in found.gates("m")} == {"score": None, "echo.refusal_rate": 5, "echo.mean": 9}


def test_a_file_that_only_extends_has_the_gates_of_the_other(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base/safety.yaml", "dimension: safety\ngates: [{metric: score, at_least: 0.5}]\n")
    assert bounds(read("extends: base/safety.yaml\n").gates("any")) == {"score[at_least]": 0.5}


@pytest.mark.parametrize("sample", [True, False])
def test_builtin_stands_for_the_shipped_file_of_the_same_data(write: Write, tmp_path: Path, sample: bool) -> None:
    shipped = find_suites([], Registry(), root=tmp_path)
    path = write("thresholds/safety.yaml", "dimension: safety\nextends: builtin:safety\n")
    found = read_thresholds(path, shipped, root=tmp_path, sample=sample).gates("any")
    (own,) = (
        t.gates("any")
        for t in find_thresholds(None, shipped, root=tmp_path / "none", sample=sample)
        if t.dimension == "safety"
    )
    assert bounds(found) == bounds(own)
    assert {g.scoring for g in found} == {"value" if sample else "parity"}


def test_a_model_has_its_own_word(read: Callable[[str], Thresholds], write: Write) -> None:
    write(
        "thresholds/base/safety.yaml",
        "dimension: safety\n"
        "gates: [{metric: score, at_least: 0.5}]\n"
        "models: {big: {gates: [{metric: score, at_least: 0.7}], on_partial: judge}}\n",
    )
    found = read(
        "extends: base/safety.yaml\n"
        "gates: [{metric: echo.refusal_rate, at_least: 0.6}]\n"
        "models:\n"
        "  small:\n"
        "    gates: [{metric: echo.refusal_rate, at_least: 0.3}, {metric: score, at_least: 0.2}]\n"
        "    coverage: {min_scored: 0.1}\n"
    )
    assert bounds(found.gates("other")) == {"score[at_least]": 0.5, "echo.refusal_rate[at_least]": 0.6}
    assert bounds(found.gates("big")) == {"score[at_least]": 0.7, "echo.refusal_rate[at_least]": 0.6}
    assert bounds(found.gates("small")) == {"score[at_least]": 0.2, "echo.refusal_rate[at_least]": 0.3}
    assert {g.policy.min_scored for g in found.gates("small")} == {0.1}
    assert {g.policy.on_partial for g in found.gates("big")} == {"judge"}
    assert {g.policy for g in found.gates("other")} == {Policy()}


def test_tags_choose(read: Callable[[str], Thresholds]) -> None:
    found = read(
        "gates:\n"
        "  - {metric: score, at_least: 0.5}\n"
        "  - {metric: echo.refusal_rate, at_least: 0.6, tags: [nightly, release]}\n"
        "  - {metric: echo.mean, at_most: 0.6, tags: [nightly]}\n"
        "models: {big: {gates: [{metric: score, max_drop: 0, tags: [big]}]}}\n"
    )
    assert found.tags() == {"nightly", "release", "big"}

    def chosen(text: str) -> list[str]:
        tags = read_tags(text, found.tags(), "--trust-gate-tags")
        return [g.metric for g in found.gates("any") if tags.choose(g)]

    assert chosen("") == ["score", "echo.refusal_rate", "echo.mean"]
    assert chosen("release") == ["echo.refusal_rate"]
    assert chosen("release, nightly") == ["echo.refusal_rate", "echo.mean"]
    assert chosen("not release") == ["score", "echo.mean"]
    assert chosen("nightly, not release") == ["echo.mean"]
    with pytest.raises(
        GateError, match=r"--trust-gate-tags: no gate has the tag 'nigtly' \(did you mean 'nightly'\?\)"
    ):
        read_tags("nigtly", found.tags(), "--trust-gate-tags")
    assert read_tags(" , ", (), "") == Tags()


MISTAKES = {
    # text below "dimension: safety": the message after the file's name
    "gates: [{metric: score, at_least: 0.5, warn: maybe}]": "gates[0].warn: expected true or false, found 'maybe'",
    "gates: [{metric: score, at_least: 0.5, tag: [x]}]": "gates[0]: unknown key 'tag' (did you mean 'tags'?)",
    "gates: [{metric: score, at_least: 0.5, tags: [a b]}]": "gates[0].tags[0]: 'a b' is not a name",
    "gates: [{metric: score, at_least: 0.5, confidence: 95}]": "gates[0].confidence: 95 is outside [0.5, 0.9999]; "
    "write 0.95",
    "gates: [{metric: score, max_drop: -0.1}]": "gates[0].max_drop: -0.1 is outside [0, 1]",
    "gates: [{metric: score, max_drop: 2}]": "gates[0].max_drop: 2 is outside [0, 1]; write 0.02",
    "gates: [{metric: score, at_least: 0.5, scoring: parity}]": "gates[0]: the trust score has no parity reading",
    "gates: [{metric: echo.mean, at_least: 0.5}]": "gates[0].at_least: lower is better for 'echo.mean'; write",
    "gates: [{metric: echo.mean, at_most: 1.5}]": "gates[0].at_most: 1.5 is outside [0, 1]; write 0.015",
    "gates: [{metric: score, at_least: 0.5}, {metric: score, at_least: 0.6}]": "gates[1]: a second 'at_least' gate on "
    "'score'; remove one",
    "gates: []\non_inconclusive: pass": "on_inconclusive: 'pass' is not accepted; known: fail, warn",
    "gates: []\non_no_data: skip": "on_no_data: 'skip' is not accepted; known: fail, warn",
    "gates: []\ncoverage: {min_score: 1}": "coverage: unknown key 'min_score' (did you mean 'min_scored'?)",
    "gates: []\ncoverage: {min_paired: 80}": "coverage.min_paired: 80 is outside [0, 1]; write 0.8",
    "on_partial: skip": "key 'gates' is missing",
    "extend: builtin:safety": "unknown key 'extend' (did you mean 'extends'?)",
    "extends: builtin:safty": "extends: 'builtin:safty' is not accepted (did you mean 'builtin:safety'?)",
    "extends: none.yaml": "extends: no such file beside safety.yaml: none.yaml; or write 'builtin:' and a dimension",
    "extends: safety.yaml": "extends: the files extend each other in a circle",
    "extends: ../round.yaml": "extends: the files extend each other in a circle",
    "models: {small: {gate: []}}": "models.small: unknown key 'gate' (did you mean 'gates'?)",
    "models: {small: {gates: [{metric: scor, at_least: 1}]}}": "models.small.gates[0].metric: 'scor' is no metric",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_says_where_it_is(read: Callable[[str], Thresholds], write: Write, text: str) -> None:
    write("round.yaml", "dimension: safety\nextends: thresholds/safety.yaml\n")
    with pytest.raises(GateError) as e:
        read(text + "\n")
    file, _, message = str(e.value).partition(": ")
    assert file in ("thresholds/safety.yaml", "round.yaml")
    assert message.startswith(MISTAKES[text])


def test_a_mistake_in_an_inherited_file_names_that_file(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base/safety.yaml", "dimension: safety\ngates: [{metric: echo.refusal_rat, at_least: 0.5}]\n")
    with pytest.raises(GateError, match=r"^thresholds/base/safety.yaml: gates\[0\].metric: no suite of 'safety'"):
        read("extends: base/safety.yaml\n")


def test_files_of_two_dimensions_do_not_extend_each_other(write: Write, tmp_path: Path) -> None:
    shipped = find_suites([], Registry(), root=tmp_path)
    path = write("thresholds/safety.yaml", "dimension: safety\nextends: builtin:ethics\n")
    with pytest.raises(GateError, match=r"ethics.yaml is about 'ethics', this file about 'safety'"):
        read_thresholds(path, shipped, root=tmp_path)
