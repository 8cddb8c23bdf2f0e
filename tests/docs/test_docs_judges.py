"""What docs/judges.md shows of labelling is what the commands print."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import labelled_run
import pytest
from pages import BLOCKS

from pytest_trustllm.cli import main

SHOWN = {block.name: block.text for block in BLOCKS if block.page == "docs/judges.md" and block.kind == "labels"}


def test_every_block_is_shown_here() -> None:
    assert set(SHOWN) == {"label", "check", "stale"}


def test_the_page_shows_a_session_its_check_and_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled_run.write_run(tmp_path, 400)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("s\n" * 100))
    assert main(["label", "r.json", "--task", "safety/harm", "-n", "100"]) == 0
    assert capsys.readouterr().out.startswith(SHOWN["label"])
    path = tmp_path / "labels.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for line in lines:
        line["label"] = labelled_run.people(line["response"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["judge-check", "--results", "r.json", "labels.jsonl", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.rpartition("written:")[0] == SHOWN["check"]

    labelled_run.write_suite(tmp_path, 400, prompt="Now {{ prompt }}")
    results = json.loads((tmp_path / "r.json").read_text())
    results["run"]["tasks"]["safety/harm"]["hashes"]["prompt"] = "another"
    (tmp_path / "r.json").write_text(json.dumps(results))
    assert main(["gate", "r.json", "--judge-check", "judge-check.json"]) == 4
    assert capsys.readouterr().err.replace(f"{tmp_path}/", "") == SHOWN["stale"]
