"""Real reports, made once, and a browser to read them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic_run
from chromium import Browser

from pytest_trustllm.report.page import html

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.quit()


@pytest.fixture
def window(browser: Browser) -> Iterator[Browser]:
    """The browser as it is at first; the test fails if a page complained or asked the network for anything."""
    browser.size(1280, 900)
    browser.media()
    yield browser
    assert browser.logs() == []
    assert browser.requests() == []


def run_demo(directory: Path, *args: str, status: int = 0) -> None:
    """Run the demo model as a user does."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--trust-model=demo", *args]
    done = subprocess.run(
        [*command, f"--rootdir={directory}"],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``demo.html``, and ``failing.html`` of a run that fails and is compared with the first."""
    directory = tmp_path_factory.mktemp("reports")
    run_demo(directory, "--trust-report=demo.html", "--trust-results=demo.json")
    run_demo(
        directory,
        *("--trust-report=failing.html", "--trust-results=failing.json", "--trust-seed=3"),
        *("--trust-baseline=demo.json", f"--trust-thresholds={ROOT / 'docs' / 'strict'}"),
        status=1,
    )
    return directory


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of recorded responses to all 16,441 rows of TrustLLM."""
    shared = ROOT.parent / "shared"
    if not (shared / "oracle" / "responses.zip").exists():
        pytest.skip("recorded responses lie in ../shared, which users do not have")
    directory = tmp_path_factory.mktemp("replayed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--trust-report=page.html"]
    command += [f"--trust-model=replay:{shared / 'oracle' / 'responses.zip'}", f"--rootdir={directory}"]
    command += [f"--trust-data={shared / 'trustllm' / 'dataset.zip'}"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-2000:] + done.stderr
    (directory / "terminal.txt").write_text(done.stdout, encoding="utf-8")
    return directory / "page.html"


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report as large as one of all of TrustLLM: 16,441 items with responses of about 300 tokens."""
    total = 16441
    page = html.render(html.Run(synthetic_run.results(total), synthetic_run.samples(total, words=230)))
    path = tmp_path_factory.mktemp("whole") / "whole.html"
    path.write_text(page, encoding="utf-8")
    return path
