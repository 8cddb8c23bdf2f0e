"""Names become objects, in this process and in the model host."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_trustllm.errors import TrustLLMError
from pytest_trustllm.registry import METRICS, PROVIDERS, SCORERS, Registry
from pytest_trustllm.types import Score


@dataclasses.dataclass(frozen=True)
class Mine:
    roles = ()

    def score(self, sample: object, replies: object) -> Score:
        return Score(1.0)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize(
    ("kind", "names"), [("scorers", SCORERS), ("metrics", METRICS), ("providers", PROVIDERS)], ids=lambda x: str(x)[:8]
)
def test_every_built_in_name_leads_somewhere(kind: str, names: dict[str, str], registry: Registry) -> None:
    found = getattr(registry, kind)
    assert sorted(found) == sorted(names)
    for name in names:
        assert name in found
        assert found.get(name) is found.get(name)


def test_an_unknown_name_gets_a_suggestion(registry: Registry) -> None:
    with pytest.raises(
        TrustLLMError, match=r"^no scorer named 'refussal' \(did you mean 'refusal'\?\); known: action_j"
    ):
        registry.scorers.get("refussal")


def test_no_name_is_silently_replaced(registry: Registry) -> None:
    registry.scorers.add("mine", Mine)
    for name in ("mine", "refusal"):
        with pytest.raises(TrustLLMError, match=f"^scorer '{name}' is registered twice; choose another name$"):
            registry.scorers.add(name, Mine)
    assert registry.scorers.get("mine") is Mine


@pytest.mark.parametrize("what", [lambda: None, Mine(), type("Inner", (), {"__qualname__": "f.<locals>.Inner"})])
def test_what_the_host_could_not_import_is_refused_at_once(what: object, registry: Registry) -> None:
    with pytest.raises(TrustLLMError, match=r"^scorer 'x': .* cannot be imported by another process; register a class"):
        registry.scorers.add("x", what)
    assert "x" not in registry.scorers


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no_such_module:X", "No module named 'no_such_module'"),
        ("json:Nothing", "module 'json' has no attribute 'Nothing'"),
        ("json", "module 'json' has no attribute ''"),
        ("", "*"),
        (":x", "*"),
        ("broken_module:X", "ZeroDivisionError: division by zero"),
        ("wrong_syntax:X", "SyntaxError: *"),
    ],
)
def test_a_target_that_leads_nowhere_is_one_line(
    target: str, why: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "wrong_syntax.py").write_text("def\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.metrics.add("x", target)
    with pytest.raises(TrustLLMError) as e:
        registry.metrics.get("x")
    assert str(e.value).startswith(f"metric 'x' cannot be imported: {why.removesuffix('*')}")
    assert "\n" not in str(e.value)


def test_the_host_gets_what_was_added_and_nothing_else(registry: Registry) -> None:
    registry.metrics.add("plain", "json:JSONDecoder")
    registry.scorers.add("mine", Mine)
    added = registry.added()
    assert added["providers"] == {}
    assert added["metrics"] == {"plain": {"module": "json", "attribute": "JSONDecoder", "file": ""}}
    other = Registry()
    other.restore(added)
    other.restore(added)  # twice is no harm
    assert other.scorers.get("mine") is Mine
    assert other.metrics.get("plain").__name__ == "JSONDecoder"


CONFTEST = """
class Outer:
    class Inner:
        mark = "from the conftest"
"""


def test_a_class_of_a_conftest_is_imported_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    where = {"module": "conftest", "attribute": "Outer.Inner", "file": str(tmp_path / "conftest.py")}
    code = (
        "import sys, json; from pytest_trustllm.registry import Registry; r = Registry(); "
        "r.restore({'scorers': {'x': json.loads(sys.argv[1])}}); print(r.scorers.get('x').mark)"
    )
    out = subprocess.run([sys.executable, "-c", code, json.dumps(where)], capture_output=True, text=True, check=True)
    assert out.stdout == "from the conftest\n"


def test_making_a_registry_imports_no_scorer_metric_or_model() -> None:
    code = (
        "import sys; from pytest_trustllm.registry import Registry; Registry().scorers.unknown('x'); "
        "print([m for m in sys.modules if m.startswith('pytest_trustllm.') and m.count('.') > 1])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
