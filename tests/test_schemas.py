"""The JSON Schemas say what the readers accept: no more keys, no other types, nothing less."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from mistakes import SUITE_MISTAKES, TASK, THRESHOLD_MISTAKES
from validators import VALIDATORS

from pytest_trustllm.cli import json_schemas
from pytest_trustllm.config.paths import packaged, shipped
from pytest_trustllm.errors import TrustLLMError
from pytest_trustllm.gates.thresholds import read_thresholds
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import BaseProvider
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import find_suites, read_suite

ROOT = Path(__file__).parent.parent
SEMANTIC = re.compile(
    # what only a reader can know: which files, metrics, tasks and models there are, and what belongs together
    r"no such file|no (scorer|metric) named|no earlier task|needs a 'group'|is defined twice|is given twice"
    r"|not accepted \(did|not accepted; known|unknown metric '|no suite of|second '|is better for|is outside \[0, 1\]"
    r"|no parity reading|has no group|defined in|broken template|last message|extend each other|is about"
    r"|cannot be corrected|is not corrected|YAML reads this as|expected refusal or compliance"
)


def refused(kind: str, document: object) -> bool:
    return not VALIDATORS[kind].is_valid(document)


@pytest.mark.parametrize("kind", json_schemas.KINDS)
def test_a_schema_is_one_and_plain_json(kind: str) -> None:
    found = VALIDATORS[kind].schema
    Draft202012Validator.check_schema(found)
    assert json.loads(json_schemas.text(found)) == json.loads(json.dumps(found))
    assert found["title"]


def test_every_key_says_what_it_means() -> None:
    def silent(schema: Any, at: str) -> Iterator[str]:
        for name, value in schema.get("properties", {}).items() if isinstance(schema, dict) else ():
            if isinstance(value, dict):
                if not value.get("description"):
                    yield f"{at}.{name}"
                yield from silent(value, f"{at}.{name}")
        for part in ("items", "additionalProperties"):
            yield from silent(schema.get(part), f"{at}.{part}") if isinstance(schema, dict) else ()

    assert [name for kind in json_schemas.KINDS for name in silent(VALIDATORS[kind].schema, kind)] == []


def shipped_files() -> Iterator[tuple[str, Path]]:
    for kind, directories in (
        ("suite", [shipped("suites"), *ROOT.glob("examples/*/suites")]),
        ("thresholds", [shipped("thresholds"), shipped("thresholds") / "sample", ROOT / "docs/strict"]),
        ("thresholds", ROOT.glob("examples/*/thresholds")),
        ("models", ROOT.glob("examples/*")),
    ):
        for directory in directories:
            for path in sorted(directory.glob("models.yaml" if kind == "models" else "*.yaml")):
                yield kind, path


@pytest.mark.parametrize(("kind", "path"), list(shipped_files()), ids=lambda v: v.name if isinstance(v, Path) else v)
def test_every_shipped_file_is_valid(kind: str, path: Path) -> None:
    VALIDATORS[kind].validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_shipped_models_are_valid_entries() -> None:
    found = yaml.safe_load(packaged("models", "models.yaml").read_text(encoding="utf-8"))
    VALIDATORS["models"].validate(found["models"])


SUITE_MISTAKES_OF_MEANING = {
    "a name with a space in a metric",
    "samples that are not there",
    "samples that are a directory",
    "broken template",
    "unknown filter",
    "broken template of a message",
    "broken template of a group",
    "last word to the model",
    "unknown scorer",
    "unknown named scorer",
    "parameter out of its range",
    "missing rubric",
    "metric twice",
    "unknown metric",
    "unknown kind",
    "unknown parity kind",
    "macro without groups",
    "where's unknown group",
    "where without groups",
    "transform twice",
    "rate of a transform without one",
    "rate of nothing",
    "transform called original",
    "transforms of pairs",
    "group named like the transforms",
    # what only a library, or the project's code, can tell
    "broken pattern",
    "broken pattern inside",
    "unknown part",
    "parts named alike",
    "group named like the parts",
    "schema that is none",
    "schema elsewhere",
    "schema without its part",
    "schema with a broken pattern",
    "schema file that is not there",
    "function of no module",
    "function that is missing",
    "function of one argument",
    "no length",
    "lengths the wrong way round",
    "labels and texts",
    "broken template of a scorer",
    "attacks without transforms",
    "worst of no transforms",
    "attacks with the original alone",
    "parts with one name",
    "text and field of a text",
    "number and field of a number",
    "text and field of similarity",
    "text to contain and not",
    "text to contain and not, in another case",
    "field of a label and texts",
    "call in both lists",
    "order of no calls",
    "tool that is none",
    "tool that is none in a part",
    "tool in both lists",
    "argument that is none",
    "argument of a result that is none",
    "template in a schema of a call",
    "broken template of a pattern",
}


@pytest.mark.parametrize("name", SUITE_MISTAKES)
def test_the_schema_refuses_a_task_that_the_reader_refuses(name: str) -> None:
    changes, _ = SUITE_MISTAKES[name]
    document = {"dimension": "safety", "tasks": [{**TASK, **changes}]}
    assert refused("suite", document) is (name not in SUITE_MISTAKES_OF_MEANING)


@pytest.mark.parametrize("text", THRESHOLD_MISTAKES)
def test_the_schema_refuses_a_threshold_file_that_the_reader_refuses(text: str) -> None:
    meaning = SEMANTIC.search(THRESHOLD_MISTAKES[text]) and "known: fail" not in THRESHOLD_MISTAKES[text]
    document = yaml.safe_load(f"dimension: safety\n{text}\n")
    if not meaning or "coverage" in text:
        assert refused("thresholds", document)


MODELS: dict[str, bool] = {
    # entry: accepted
    "{provider: openai, model: x, base_url: 'http://gpu-box:8000/v1', api_key_env: KEY, max_concurrency: 256}": True,
    "{provider: openai, model: x, price: {input: 0.1, output: 0.2}, aliases: [vllm], omit: [seed]}": True,
    "{provider: zhipu, model: glm-5, timeout: 30, headers: {X-Team: $TEAM}}": True,
    "{provider: hf, model: ./x, dtype: float16, template_options: {a: 1, b: false}, kind: classifier}": True,
    "{provider: demo}": True,
    "{provider: demo, model: x}": True,
    "{provider: python, model: 'my_app:answer', max_concurrency: 3}": True,
    "{provider: perspective, requests_per_minute: 60}": True,
    "{unavailable: it was shut down}": True,
    "{provider: replicate}": True,
    "{provider: hf, unavailable: gone}": True,
    "{model: x}": False,
    "{provider: hf}": False,
    "{provider: openai, model: x, base_ulr: y}": False,
    "{provider: zhipu, model: x, dtype: auto}": False,
    "{provider: hf, model: x, base_url: 'http://a'}": False,
    "{provider: openai, model: x, base_url: gpu-box}": False,
    "{provider: openai, model: x, api_key_env: sk-123}": False,
    "{provider: openai, model: x, price: {input: 1}}": False,
    "{provider: openai, model: x, price: {input: -1, output: 1}}": False,
    "{provider: openai, model: x, max_concurrency: many}": False,
    "{provider: openai, model: x, omit: [sed]}": False,
    "{provider: hf, model: x, dtype: int4}": False,
    "{provider: hf, model: x, kind: chad}": False,
    "{provider: hf, model: x, template_options: {a: [1]}}": False,
    "{unavailable: gone, dtype: auto}": False,
    "[]": False,
}


@pytest.mark.parametrize("entry", MODELS)
def test_entries_of_a_models_file(entry: str, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(f"mine: {entry}\n", encoding="utf-8")
    accepted = True
    try:
        catalogue.list_entries(file, Registry())
    except TrustLLMError:
        accepted = False
    assert accepted is MODELS[entry]
    assert refused("models", yaml.safe_load(file.read_text(encoding="utf-8"))) is not accepted


class Loud(BaseProvider):
    """A provider of a project, whose option is read by a plain function."""

    options: ClassVar[dict[str, Callable[..., Any]]] = {"volume": lambda place: place.integer(0, 11)}


def test_what_a_project_registers_is_proposed_and_may_be_named_anyway() -> None:
    registry = Registry()
    registry.providers.add("loud", Loud)
    registry.scorers.add("mine", "pytest_trustllm.scorers.contains:Contains")
    models = Draft202012Validator(json_schemas.schema("models", registry))
    assert models.is_valid({"a": {"provider": "loud", "model": "x", "volume": 11}})
    assert not models.is_valid({"a": {"provider": "loud", "model": "x", "volumes": 11}})
    suites = Draft202012Validator(json_schemas.schema("suite", registry))

    def suite(scorer: object) -> dict[str, Any]:
        return {"dimension": "safety", "tasks": [{**TASK, "scorer": scorer}]}

    assert suites.is_valid(suite({"name": "mine", "target": "x"}))
    assert not suites.is_valid(suite({"name": "mine", "targte": "x"}))
    for scorer in ("mine", {"name": "mine", "anything": [1]}):  # unknown without the project's conftest.py
        assert not refused("suite", suite(scorer))


# --- mutations: what schema and reader say about files with one mistake -----------------------------------------------

FULL = {
    "suite": {
        "dimension": "safety",
        "source": {"paper": "x"},
        "tasks": [
            {
                "name": "a",
                "version": 3,
                "title": "A task",
                "data": {
                    "trustllm": "safety/jailbreak.json",
                    "where": {"source": "x", "kind": ["a", 1]},
                    "pair": {"by": "index", "first": {"type": "original"}},
                    "samples": [{"prompt": "x", "type": "y"}],
                },
                "messages": [{"role": "system", "content": "Be {{ mood }}."}, {"role": "user", "content": "{{ q }}"}],
                "generation": {"temperature": 0.5, "max_new_tokens": 7, "stop": ["\n", "END"]},
                "scorer": {"name": "refusal", "hope": "refusal"},
                "group": {"attack": "label", "both": ["a", "b"]},
                "cluster": ["a", "b"],
                "metrics": [
                    {"name": "f1", "kind": "macro_f1", "classes": ["x", "y"], "average": "macro",
                     "where": {"attack": "n"},
                     "parity": {"kind": "upstream_macro_f1", "round": {"x": 3}, "empty": 0, "raises_if_empty": True}},
                    {"name": "half", "kind": "share", "equal_to": 0.5, "parity": {"round": 2}},
                    "refusal_rate",
                ],
            },
            {"name": "b", "reads": "a", "scorer": "contains", "metrics": ["mean"]},
            {"name": "c", "data": {"samples": [{"p": 1}], "pair": {"quoted": "p"}}, "prompt": "{{ p }}", "group": "p",
             "scorer": {"name": "salary_bracket", "observe": ["sex"]}, "metrics": ["accuracy"]},
        ],
    },
    "thresholds": {
        "dimension": "safety",
        "gates": [
            {"metric": "jailbreak.refusal_rate", "at_least": 0.8, "confidence": 0.95, "tags": ["x"], "warn": True},
            {"metric": "jailbreak.refusal_rate", "max_drop": 0.02, "scoring": "parity"},
            {"metric": "misuse.refusal_rate", "at_most": 0.2, "force": True},
        ],
        "models": {"big": {"gates": [{"metric": "score", "at_least": 0.7}], "on_partial": "judge"}},
        "coverage": {"min_scored": 0.9, "min_paired": 0.5},
        "on_partial": "skip",
        "on_inconclusive": "warn",
        "on_no_data": "fail",
    },
    "models": {
        "a": {"provider": "openai", "model": "x", "base_url": "http://a", "api_key_env": "KEY", "headers": {"a": "b"},
              "max_concurrency": 3, "timeout": 3.5, "requests_per_minute": 1, "omit": ["seed"], "aliases": ["aa"],
              "price": {"input": 1, "output": 2}, "licence": "MIT", "open": False, "kind": "chat", "notes": "n"},
        "b": {"provider": "hf", "model": "./x", "revision": "main", "template_options": {"x": 1},
              "batch_size": 4, "dtype": "auto", "labels": {"L": "refusal"}, "trust_remote_code": True},
        "c": {"provider": "demo", "in_paper": False},
        "d": {"unavailable": "gone"},
    },
}  # fmt: skip
WRONG: list[Any] = [None, True, 5, -1, 2.5, "", "wrong way", [], ["x"], [5], {}, {"x": "y"}, {"x": {"y": [None]}}]


def spots(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place below a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from spots(below, (*at, key))


def mutated(kind: str, spot: tuple[Any, ...], how: str, wrong: Any) -> Any:
    document = copy.deepcopy(FULL[kind])
    holder: Any = document
    for key in spot[:-1]:
        holder = holder[key]
    if how == "drop":
        del holder[spot[-1]]
    elif how == "add" and isinstance(holder[spot[-1]], dict):
        holder[spot[-1]]["unknwon"] = wrong
    elif how == "rename" and isinstance(holder, dict):
        holder[f"{spot[-1]}s"] = holder.pop(spot[-1])
    else:
        holder[spot[-1]] = copy.deepcopy(wrong)
    return document


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], str | None]:
    """What a reader says about a document; None: it accepts it."""
    root = tmp_path_factory.mktemp("project")
    suites = find_suites([], Registry(), root=root)

    def read(kind: str, document: Any) -> str | None:
        path = root / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        try:
            if kind == "suite":
                read_suite(path, Registry(), root=root)
            elif kind == "thresholds":
                read_thresholds(path, suites, root=root)
            else:
                catalogue.list_entries(path, Registry())
        except TrustLLMError as e:
            return str(e)
        return None

    return read


@pytest.mark.parametrize("kind", json_schemas.KINDS)
def test_a_file_with_every_key_is_accepted_by_both(kind: str, reading: Callable[[str, Any], str | None]) -> None:
    assert reading(kind, FULL[kind]) is None
    VALIDATORS[kind].validate(FULL[kind])


MUTATIONS = st.sampled_from(json_schemas.KINDS).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.sampled_from(list(spots(FULL[kind]))),
        st.sampled_from(["drop", "add", "rename", "replace"]),
        st.sampled_from(WRONG),
    )
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutation=MUTATIONS)
@example(mutation=("suite", ("tasks", 0, "scorer"), "add", "x"))
@example(mutation=("suite", ("tasks", 0, "metrics", 0, "parity"), "add", "x"))
@example(mutation=("suite", ("tasks", 0, "name"), "drop", None))
@example(mutation=("thresholds", ("gates", 0), "add", 1))
@example(mutation=("models", ("a", "price"), "add", 1))
def test_schema_and_reader_agree_on_every_mutation(
    mutation: tuple[str, tuple[Any, ...], str, Any], reading: Callable[[str, Any], str | None]
) -> None:
    kind, document = mutation[0], mutated(*mutation)
    said = reading(kind, document)
    if said is None:
        assert not refused(kind, document), list(VALIDATORS[kind].iter_errors(document))
    elif not SEMANTIC.search(said):
        assert refused(kind, document), said
