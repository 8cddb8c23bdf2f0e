"""Entry points of installed distributions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from acme import distribution

from pytest_trustllm import extensions
from pytest_trustllm.errors import SuiteError, TrustLLMError
from pytest_trustllm.extensions import MODULES, SUITES

SUITE = "dimension: d\ntasks: [{name: t, data: {samples: [{prompt: a, label: a}]}, scorer: contains, metrics: [mean]}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_nothing_is_installed_here() -> None:
    assert extensions.module_entries() == []
    assert list(extensions.build_registry(extensions.register_functions()).scorers) == list(
        extensions.build_registry([]).scorers
    )
    assert extensions.no_package_either("acme") == ""


def test_a_hook_that_a_conftest_imports_too_is_called_once(site: Path) -> None:
    (site / "once_hooks.py").write_text(
        "def pytest_trustllm_register(registry): registry.scorers.add('once', 'once_hooks:Once')\n"
    )
    distribution(site, "once", MODULES, "once = once_hooks")
    (hook,) = extensions.register_functions()
    assert "once" in extensions.build_registry([hook, hook]).scorers


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_this_name\n", "broken_hooks cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0\n", "broken_hooks cannot be imported: ZeroDivisionError: division by zero"),
        ("pytest_trustllm_register = 3\n", "broken_hooks has no function pytest_trustllm_register; the entry point"),
    ],
)
def test_a_broken_module_is_one_line_that_names_its_distribution(
    site: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "broken_hooks", raising=False)
    (site / "broken_hooks.py").write_text(code)
    distribution(site, "broken", MODULES, "house = broken_hooks")
    start = f"entry point 'house' of broken (group pytest_trustllm): {message}"
    with pytest.raises(TrustLLMError, match=f"^{re.escape(start)}") as e:
        extensions.register_functions()
    assert "\n" not in str(e.value)


def test_a_hook_that_raises_is_one_line_with_the_place(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "raising_hooks.py").write_text("def pytest_trustllm_register(registry):\n    registry.nothing\n")
    distribution(site, "raising", MODULES, "house = raising_hooks")
    with pytest.raises(TrustLLMError, match=r"^raising_hooks\.pytest_trustllm_register raised AttributeError: .*py:2"):
        extensions.build_registry(extensions.register_functions())


@pytest.mark.parametrize(
    ("entry", "suites", "thresholds"),
    [
        ("house = inside", "inside/suites", "inside/thresholds"),
        ("house = flat", "flat", "flat/thresholds"),
        ("house = flat.below", "flat/below", None),
        ("house = places:HERE", "places_data/suites", None),
    ],
)
def test_a_package_or_a_directory_holds_suites(site: Path, entry: str, suites: str, thresholds: str | None) -> None:
    for name in ("inside/suites", "flat", "flat/below", "places_data/suites"):
        (site / name).mkdir(parents=True, exist_ok=True)
        (site / name / "mine.yaml").write_text(SUITE)
    for name in ("inside/thresholds", "flat/thresholds"):
        (site / name).mkdir()
    (site / "places.py").write_text("from pathlib import Path\nHERE = Path(__file__).parent / 'places_data'\n")
    distribution(site, "house", SUITES, entry)
    found = extensions.suite_package("house")
    assert found.suite_names() == ["mine"]
    assert found.suites == site / suites
    assert found.thresholds == (None if thresholds is None else site / thresholds)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("house = none_such", "none_such is not a directory; name a package, or 'module:NAME' that holds a path"),
        ("house = module", "module is not a directory; name a package"),
        ("house = module:NUMBER", "module:NUMBER is not a directory; name a package"),
        ("house = module:NOTHING", "module:NOTHING cannot be imported: AttributeError"),
        ("house = empty", "/empty holds no suite file; it needs NAME.yaml or suites/NAME.yaml"),
    ],
)
def test_what_is_no_package_of_suites_is_one_line(site: Path, entry: str, message: str) -> None:
    (site / "module.py").write_text("NUMBER = 3\n")
    (site / "empty").mkdir()
    distribution(site, "house", SUITES, entry)
    with pytest.raises(TrustLLMError, match=re.escape(message)) as e:
        extensions.suite_package("house")
    assert str(e.value).startswith("entry point 'house' of house (group pytest_trustllm.suites): ")


def test_a_name_that_nobody_or_everybody_has(site: Path) -> None:
    distribution(site, "house", SUITES, "house = one")
    with pytest.raises(SuiteError, match=r"^no suite package named 'hause' is installed \(did you mean 'house'\?\)"):
        extensions.suite_package("hause")
    distribution(site, "other", SUITES, "house = two")
    with pytest.raises(SuiteError, match=r"^suite package 'house' is installed twice: by entry point 'house' of house"):
        extensions.suite_package("house")


def test_a_pack_that_is_not_installed_is_told_with_its_distribution() -> None:
    with pytest.raises(
        SuiteError,
        match=r"^no suite package named 'xstest' is installed; it is in pytest-trustllm-packs: pip install pytest-tr",
    ):
        extensions.suite_package("xstest")
    assert extensions.how_to_install("bbq/religion") == extensions.how_to_install("bbq") != ""
    assert extensions.how_to_install("acme") == ""


def test_how_to_install_an_installed_pack_is_not_told(site: Path) -> None:
    distribution(site, "pytest-trustllm-packs", SUITES, "xstest = some_pack")
    assert extensions.how_to_install("xstest/nope") == ""
    assert extensions.how_to_install("bbq") != ""


def test_all_packs_are_known_by_name() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "packs" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == extensions.PACKS_DISTRIBUTION
    assert sorted(project["project"]["entry-points"][SUITES]) == list(extensions.PACKS)
