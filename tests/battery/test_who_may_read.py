"""What a run and the commands write about answers can be read by its owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from user_project import Project

import pytest_trustllm.cli as cli


def test_what_a_run_writes_is_its_owners_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("--trust-report=r.html", "-p", "no:cacheprovider")
    monkeypatch.chdir(project.path)
    for command in (
        ["export", "r.json", "-o", "e.csv"],
        ["export", "r.json", "--format", "inspect", "-o", "logs"],
        ["report", "r.json", "-o", "again.html"],
    ):
        assert cli.main(command) == 0
    made = [Path(name) for name in ("r.json", "r.samples.jsonl", "r.html", "e.csv", "again.html")]
    made += [*Path("logs").iterdir(), *Path(".trustllm").glob("*.jsonl")]
    assert {str(path): oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {str(p): "0o600" for p in made}
