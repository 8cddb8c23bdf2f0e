"""What a run writes is what the types say, and what is read back is checked against them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import saved_run
from jsonschema import Draft202012Validator

from pytest_trustllm.config.typed import Mismatch, checked, document_schema
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import Results, SampleLine
from pytest_trustllm.results.files import read_results, records_of, samples_of

GATE = {
    "id": "g", "line": None, "outcome": "passed", "value": 1.0, "bound": 0.5, "kind": "at_least",
    "metric": "safety/a.b", "scoring": "value", "confidence": None, "ci": None, "method": None, "further": None,
    "warn": False, "reason": "",
}  # fmt: skip
METRIC = {
    "value": 1.0, "parity": None, "ci": None, "confidence": None, "method": None, "expected": 2, "scored": 1,
    "unscored": 1, "higher_is_better": True, "range": [0.0, 1.0],
}  # fmt: skip


def with_metric(**changes: Any) -> dict[str, Any]:
    return saved_run.results(metrics={"safety/a.b": {**METRIC, **changes}})


MISMATCHES: dict[str, tuple[object, str]] = {
    # name: (document, what is said)
    "a list": ([], "expected a mapping, found []"),
    "no run": ({k: v for k, v in saved_run.results().items() if k != "run"}, "key 'run' is missing"),
    "no model name": (saved_run.results(run={"model": {}}), "run.model: key 'name' is missing"),
    "text for a number": (saved_run.results(run={"seed": "x"}), "run.seed: expected a whole number, found 'x'"),
    "a flag for a number": (saved_run.results(run={"seed": True}), "run.seed: expected a whole number, found True"),
    "a number for a flag": (
        with_metric(higher_is_better=1), "metrics['safety/a.b'].higher_is_better: expected true or false, found 1",
    ),
    "a count below zero": (
        with_metric(unscored=-8), "metrics['safety/a.b'].unscored: expected a number of at least 0, found -8",
    ),
    "not a number": (
        with_metric(value=float("nan")), "metrics['safety/a.b'].value: expected a finite number or null, found nan",
    ),
    "an interval of text": (
        with_metric(ci=[0.1, "x"]), "metrics['safety/a.b'].ci[1]: expected a finite number, found 'x'",
    ),
    "an outcome of another tool": (
        saved_run.results(gates=[GATE, {**GATE, "outcome": "ok"}]),
        "gates[1].outcome: expected 'passed' or 'failed' or 'inconclusive' or 'no_data' or 'skipped', found 'ok'",
    ),
    "a table that is a list": (saved_run.results(scores=[]), "scores: expected a mapping, found []"),
    "a role without a name": (
        saved_run.results(run={"roles": {"judge": {"id": "j"}}}), "run.roles.judge: key 'name' is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_names_its_place(name: str) -> None:
    document, message = MISMATCHES[name]
    with pytest.raises(Mismatch) as e:
        checked(document, Results)
    assert str(e.value) == message


@pytest.mark.parametrize("name", MISMATCHES)
def test_the_schema_refuses_what_the_reader_refuses(name: str) -> None:
    document, _ = MISMATCHES[name]
    if name != "not a number":  # which JSON cannot hold
        assert not Draft202012Validator(document_schema(Results)).is_valid(document)


def test_a_sample_holds_epochs_of_its_own_kind() -> None:
    epoch = {"value": 1.0, "answer": None, "reason": None, "observed": {}, "parity": None, "met": True}
    line = saved_run.sample_line(epochs=[epoch, {**epoch, "met": "yes"}])
    with pytest.raises(Mismatch) as e:
        checked(line, SampleLine)
    assert str(e.value) == "epochs[1].met: expected true or false, found 'yes'"


def test_a_nest_of_epochs_is_a_mismatch() -> None:
    epoch: dict[str, Any] = {"value": 1.0, "answer": None, "reason": None, "observed": {}, "parity": None}
    for _ in range(2000):
        epoch = {**epoch, "epochs": [epoch]}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # some libraries raise it for the whole process
    try:
        with pytest.raises(Mismatch, match=r"^nested too deeply$"):
            checked(saved_run.sample_line(epochs=[epoch]), SampleLine)
    finally:
        sys.setrecursionlimit(limit)


def test_keys_of_later_versions_are_skipped() -> None:
    later = saved_run.results(run={"later": 1}, later=[])
    assert checked(later, Results) is later


@pytest.mark.parametrize("kind", [Results, SampleLine])
def test_a_schema_says_what_keys_mean(kind: type) -> None:
    schema = document_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert all(definition["description"] for definition in schema["$defs"].values())
    described = schema["$defs"]["ScoreEntry"]["properties"]["parity"]["description"] if kind is SampleLine else ""
    assert "authors' toolkit" in described or kind is Results


def written(directory: Path, *lines: str, **changes: Any) -> Path:
    path = directory / "r.json"
    path.write_text(json.dumps(saved_run.results(samples="r.samples.jsonl", **changes)))
    (directory / "r.samples.jsonl").write_text("".join(lines))
    return path


def test_lines_of_a_samples_file_are_checked(tmp_path: Path) -> None:
    good = json.dumps(saved_run.sample_line()) + "\n"
    bad = json.dumps(saved_run.sample_line(status="well")) + "\n"
    path = written(tmp_path, good, bad)
    with pytest.raises(ResultsError) as e:
        records_of(read_results(path), path)
    where = tmp_path / "r.samples.jsonl"
    assert str(e.value).startswith(f"{where}:2: not a line of a samples file: status: expected 'passed' or 'missed'")


def test_records_have_no_texts(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(saved_run.sample_line(printed="x", expected="y")) + "\n")
    (record,) = records_of(read_results(path), path)
    (line,) = samples_of(read_results(path), path)
    assert set(line) - set(record) == {"prompts", "responses", "verdicts", "printed", "expected"}


def test_real_files_are_what_the_types_and_the_schemas_say(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app="def answer(prompt):\n    return 'I cannot help with that.'\n")
    run = ("--trust-model=python:app:answer", "--trust-suite=safety", "--trust-epochs=2", "-p", "no:xdist")
    pytester.runpytest_subprocess(*run, "--trust-results=base.json", "--trust-limit=3")
    pytester.runpytest_subprocess(*run, "--trust-results=r.json", "--trust-limit=3", "--trust-baseline=base.json")
    path = pytester.path / "r.json"
    results = read_results(path)
    lines = list(samples_of(results, path))
    assert results["baseline"]
    assert results["gates"]
    assert any("epochs" in line for line in lines)
    Draft202012Validator(document_schema(Results)).validate(results)
    samples = Draft202012Validator(document_schema(SampleLine))
    for line in lines:
        samples.validate(line)
    # nothing is written that the types do not name
    assert set(results) <= set(Results.__annotations__)
    assert set().union(*lines) <= set(SampleLine.__annotations__)
