"""Without --trust-model the plugin costs nothing and shows nothing."""

from __future__ import annotations

import sys

import pytest
from user_project import Project, statuses

HEAVY = ("torch", "transformers", "openai", "jinja2", "yaml", "scipy", "asyncio")
PROBE = f"""
import sys
def test_nothing_heavy_came_along():
    assert [name for name in {HEAVY!r} if name in sys.modules] == []
    assert [name for name in sys.modules if name.startswith("pytest_trustllm") and "plugin" not in name] == [
        "pytest_trustllm"
    ]
"""


def test_nothing_is_imported_shown_or_made(project: Project, pytester: pytest.Pytester) -> None:
    project.gates("metric: echo.accuracy, at_least: 92")  # not even read
    project.write("tests/test_own.py", PROBE)
    others = ("no:cacheprovider", "no:hypothesispytest", "no:anyio", "no:timeout", "no:metadata")
    others += ("no:html",)  # which brings Jinja2 along
    result = pytester.run(sys.executable, "-m", "pytest", *(arg for name in others for arg in ("-p", name)))
    assert statuses(result) == {"passed": 1}
    assert "trust" not in "\n".join(line for line in result.outlines if not line.startswith(("plugins:", "rootdir:")))
    made = {p.name for p in project.path.iterdir()} - {"tests", "stdout", "stderr"}
    assert made == {"pytest.ini", "app.py", "suites", "thresholds"}


def test_marked_tests_are_skipped_with_the_reason(project: Project) -> None:
    project.write(
        "tests/test_own.py",
        "import pytest\n"
        "@pytest.mark.trust_task('suites/mine.yaml::echo')\n"
        "def test_sample(trust_model, trust_sample): pass\n"
        "def test_model(trust_model): pass\n",
    )
    result = project.run("-rs", "--strict-markers", model=None)
    assert statuses(result) == {"skipped": 2}
    result.stdout.fnmatch_lines(["SKIPPED*needs a model under test: run pytest with --trust-model=NAME"])


def test_hooks_in_a_conftest_do_no_harm(project: Project) -> None:
    project.write(
        "conftest.py",
        "def pytest_trustllm_register(registry): raise RuntimeError('must not be called')\n"
        "def pytest_trustllm_results(results, config): raise RuntimeError('must not be called')\n",
    )
    project.write("test_own.py", "def test_plain(): pass\n")
    assert project.run(model=None).ret == pytest.ExitCode.OK


def test_help_explains_every_flag(project: Project) -> None:
    result = project.run("--help", model=None)
    result.stdout.fnmatch_lines(["*--trust-model=NAME*", "*--trust-data=*", "*--trust-report=*"])
