"""Threshold files: what they inherit, what they say for one model, which gates a tag chooses, and every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mistakes import ONE_GATE, THRESHOLD_MISTAKES
from validators import VALIDATORS

from pytest_trustllm.errors import GateError
from pytest_trustllm.gates.selection import (
    Tags,
    check_models,
    check_tags,
    find_thresholds,
    likely_misspelt,
    read_tags,
)
from pytest_trustllm.gates.thresholds import Thresholds, read_thresholds
from pytest_trustllm.gates.verdict import Gate, Policy
from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites
from pytest_trustllm.suites.task import Suite

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


@pytest.mark.parametrize("text", THRESHOLD_MISTAKES)
def test_a_mistake_says_where_it_is(read: Callable[[str], Thresholds], write: Write, text: str) -> None:
    write("round.yaml", "dimension: safety\nextends: thresholds/safety.yaml\n")
    write("thresholds/base.yaml", "dimension: safety\ngates: [{metric: score, at_least: 0.5}]\n")
    with pytest.raises(GateError) as e:
        read(text + "\n")
    file, _, message = str(e.value).partition(": ")
    assert file in ("thresholds/safety.yaml", "round.yaml")
    assert message.startswith(THRESHOLD_MISTAKES[text])


def test_a_mistake_in_an_inherited_file_names_that_file(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base/safety.yaml", "dimension: safety\ngates: [{metric: echo.refusal_rat, at_least: 0.5}]\n")
    with pytest.raises(GateError, match=r"^thresholds/base/safety.yaml: gates\[0\].metric: no suite of 'safety'"):
        read("extends: base/safety.yaml\n")


def test_files_of_two_dimensions_do_not_extend_each_other(write: Write, tmp_path: Path) -> None:
    shipped = find_suites([], Registry(), root=tmp_path)
    path = write("thresholds/safety.yaml", "dimension: safety\nextends: builtin:ethics\n")
    with pytest.raises(GateError, match=r"ethics.yaml is about 'ethics', this file about 'safety'"):
        read_thresholds(path, shipped, root=tmp_path)


def find(suites: list[Suite], tmp_path: Path) -> list[Thresholds]:
    return find_thresholds(None, suites, root=tmp_path, sample=False)


def test_a_key_says_what_a_gate_on_the_score_needs(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base.yaml", f"dimension: safety\n{ONE_GATE}coverage: {{headlines: measured}}\n")
    assert [g.policy.headlines for g in read("extends: base.yaml\n").gates("any")] == ["measured"]
    assert [g.policy.headlines for g in read(ONE_GATE).gates("any")] == ["all"]


@pytest.mark.parametrize("name", ["other.yml", "OTHER.YAML", "safety.Yml"])
def test_a_file_that_nobody_would_read_is_a_mistake(
    write: Write, suites: list[Suite], tmp_path: Path, name: str
) -> None:
    write("thresholds/safety.yaml", f"dimension: safety\n{ONE_GATE}")
    write(f"thresholds/{name}", f"dimension: safety\n{ONE_GATE}")
    with pytest.raises(GateError, match=rf"thresholds/{name}: a threshold file ends in .yaml; rename it, or move it"):
        find(suites, tmp_path)


@pytest.mark.parametrize("text", ["models: {}", "models: {m: {on_partial: judge}}", "extends: base/empty.yaml"])
def test_files_that_judge_nothing_are_a_mistake(write: Write, suites: list[Suite], tmp_path: Path, text: str) -> None:
    write("thresholds/base/empty.yaml", "dimension: safety\nmodels: {m: {on_no_data: warn}}\n")
    write("thresholds/more.yaml", f"dimension: safety\n{ONE_GATE}")  # another file's gates do not excuse it
    write("thresholds/safety.yaml", f"dimension: safety\n{text}\n")
    with pytest.raises(GateError, match=r"^thresholds/safety.yaml: defines no gate, nor does a file that it extends"):
        find(suites, tmp_path)


def unknown(name: str) -> str | None:
    return catalogue.why_unknown(name, user_file=None, registry=Registry())


def test_gates_of_a_name_that_is_no_model_are_a_mistake(read: Callable[[str], Thresholds], write: Write) -> None:
    write("thresholds/base.yaml", "dimension: safety\nmodels: {lama2-7b: {gates: [{metric: score, at_least: 0.5}]}}\n")
    files = [read(f"extends: base.yaml\n{ONE_GATE}")]
    with pytest.raises(GateError) as e:
        check_models(files, ["demo"], unknown)
    assert str(e.value).startswith(
        "thresholds/base.yaml: models: no model named 'lama2-7b' (did you mean 'llama2-7b'?); accepted: a name that"
    )
    check_models(files, ["lama2-7b"], unknown)  # the run's own name: that of a project's models file, or a fixture's
    check_models(files, ["demo"], lambda _: None)
    names = ("llama2-7b", "hf:a/b", "openai:gpt-4o", "python:m:answer", "demo", "palm2", "zhipu:glm-4")
    known = [read(f"{ONE_GATE}models: {{{name!r}: {{on_partial: judge}}}}\n") for name in names]
    check_models(known, ["demo"], unknown)


def test_gates_for_other_models_alone_are_a_mistake(read: Callable[[str], Thresholds]) -> None:
    files = [read("models: {llama2-7b: {gates: [{metric: score, at_least: 0.5}]}}\n")]
    check_models(files, ["demo", "llama2-7b"], unknown)
    with pytest.raises(
        GateError, match=r"^thresholds/safety.yaml: no gate for llama2-7 \(did you mean 'llama2-7b'\?\)"
    ):
        check_models(files, ["llama2-7"], unknown)
    check_models([], ["demo"], unknown)  # without a threshold file nothing was to be judged


def test_tags_that_leave_no_gate_are_a_mistake(read: Callable[[str], Thresholds]) -> None:
    files = [read("gates: [{metric: score, at_least: 0.5, tags: [nightly]}]\n")]
    for text, chosen in (("nightly", True), ("not nightly", False), ("nightly,not nightly", False)):
        tags = read_tags(text, {"nightly"}, "--trust-gate-tags")
        if chosen:
            check_tags(files, ["demo"], tags, text, "--trust-gate-tags")
            continue
        with pytest.raises(GateError, match=rf"^--trust-gate-tags: '{text}' chooses none of the 1 gates"):
            check_tags(files, ["demo"], tags, text, "--trust-gate-tags")
    check_tags([], ["demo"], Tags(), "", "--trust-gate-tags")


def test_a_name_much_like_that_of_a_model_may_be_misspelt(read: Callable[[str], Thresholds]) -> None:
    entries = ", ".join(f"{name}: {{on_partial: judge}}" for name in ("my-ap", "my-app", "other"))
    files = [read(f"{ONE_GATE}models: {{{entries}}}\n")]
    assert likely_misspelt(files, ["my-app"]) == ["my-ap"]
    assert likely_misspelt(files, ["my-app", "my-ap"]) == []
