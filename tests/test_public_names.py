"""What users may import, and nothing by accident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import pytest_trustllm

NAMES = [
    "BaseProvider",
    "Generation",
    "LoadSettings",
    "Metric",
    "ModelSpec",
    "Question",
    "Registry",
    "Request",
    "Response",
    "Sample",
    "Score",
    "Scorer",
    "TrustLLMError",
    "TrustModel",
]


def test_the_public_names() -> None:
    assert pytest_trustllm.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    found = getattr(pytest_trustllm, name)
    assert found.__name__ == name
    assert found.__module__.startswith("pytest_trustllm.")
    assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'pytest_trustllm' has no attribute 'Nothing'$"):
        _ = pytest_trustllm.Nothing


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = "import sys, pytest_trustllm; print([m for m in sys.modules if m.startswith('pytest_trustllm.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_all_of_it_can_be_imported_at_once() -> None:
    scope: dict[str, object] = {}
    exec("from pytest_trustllm import *", scope)
    assert set(NAMES) <= set(scope)


def checked(path: Path, code: str) -> str:
    """Return what ``mypy --strict`` prints about a user's module."""
    module = path / "user.py"
    module.write_text(code, encoding="utf-8")
    out, err, _ = api.run(["--strict", "--no-error-summary", f"--cache-dir={path / 'cache'}", str(module)])
    assert not err
    return out


def test_a_type_checker_knows_every_public_name_and_no_other(tmp_path: Path) -> None:
    code = "".join(f"from pytest_trustllm import {name}\nreveal_type({name})\n" for name in [*NAMES, "Smaple"])
    *revealed, misspelt, nothing = [line for line in checked(tmp_path, code).splitlines() if "note: Maybe" not in line]
    assert 'Module "pytest_trustllm" has no attribute "Smaple"' in misspelt
    assert 'Revealed type is "Any"' in nothing
    assert len(revealed) == len(NAMES)
    assert not [line for line in revealed if '"Any"' in line or ": error:" in line]
