"""A run in shards: together what one run gives, bit for bit; what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from user_project import MAYBE_TWO, Project

APP = """
import hashlib
def answer(prompt):
    return "good" if hashlib.sha256(prompt.encode()).digest()[0] % 4 else "bad"
"""
FILE = """
dimension: safety
tasks:
  - {name: many, data: {samples: rows.jsonl}, scorer: contains, metrics: [accuracy]}
"""
GATES = (
    "metric: many.accuracy, at_least: 0.5, confidence: 0.9",
    "metric: many.accuracy, at_most: 0.5, force: true",
    "metric: score, at_least: 0.99",
)


@pytest.fixture
def sharded(project: Project) -> Project:
    project.samples(60)
    project.write("app.py", APP)
    project.gates(*GATES)
    return project


def shards(project: Project, count: int, *args: str, **more: str) -> list[str]:
    names = []
    for i in range(1, count + 1):
        project.run(f"--trust-shard={i}/{count}", *args, **more)
        for suffix in ("json", "samples.jsonl"):
            shutil.move(project.path / f"r.{suffix}", project.path / f"s{i}.{suffix}")
        names.append(f"s{i}.json")
        document = json.loads((project.path / f"s{i}.json").read_text())
        document["samples"] = f"s{i}.samples.jsonl"
        (project.path / f"s{i}.json").write_text(json.dumps(document))
    return names


def merge(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_trustllm.cli", "merge", *args, "-o", "all.json"]
    return subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=120)


def telling(results: dict[str, object]) -> dict[str, object]:
    return {k: results[k] for k in ("metrics", "scores", "gates", "coverage")}


@pytest.mark.parametrize("workers", MAYBE_TWO)
def test_merged_shards_are_the_run_bit_for_bit(sharded: Project, workers: str) -> None:
    whole = sharded.run()
    results, lines = sharded.results(), sharded.lines()
    parts = shards(sharded, 3, "-n", workers)
    merged = merge(sharded, *parts)
    assert merged.returncode == whole.ret == pytest.ExitCode.TESTS_FAILED, merged.stderr
    found = sharded.results("all.json")
    assert telling(found) == telling(results)
    assert [g["outcome"] for g in found["gates"]] == ["passed", "failed", "failed"]
    assert found["run"]["selection"] == "full"
    assert found["usage"]["requests"] == 60
    assert [line["id"] for line in sharded.lines("all.samples.jsonl")] == [line["id"] for line in lines]
    assert sharded.lines("all.samples.jsonl")[7]["prompts"] == lines[7]["prompts"]
    # the order in which shards are named does not matter
    again = merge(sharded, *reversed(parts))
    assert again.stdout == merged.stdout
    assert telling(sharded.results("all.json")) == telling(results)


@pytest.mark.slow
def test_shards_of_two_checkouts_merge(sharded: Project) -> None:
    """Rows in a file of the project, and the project in another directory for every shard, as on CI machines."""
    rows = "".join(json.dumps({"prompt": f"good {i}", "label": "good"}) + "\n" for i in range(20))
    sharded.write("suites/rows.jsonl", rows)
    sharded.write("suites/mine.yaml", FILE)
    checkouts = []
    for i in (1, 2):
        checkout = sharded.path / f"machine{i}" / f"checkout{i}"
        checkout.mkdir(parents=True)
        for name in ("pytest.ini", "app.py"):
            shutil.copy(sharded.path / name, checkout)
        for name in ("suites", "thresholds"):
            shutil.copytree(sharded.path / name, checkout / name)
        command = ["pytest", "--trust-model=python:app:answer", f"--trust-shard={i}/2", "--trust-results=r.json"]
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=checkout, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stdout
        checkouts.append(str(checkout / "r.json"))
    merged = merge(sharded, *checkouts)
    found = sharded.results("all.json")
    assert merged.stderr == ""
    assert list(found["run"]["data"]["files"]) == ["suites/rows.jsonl"]
    assert found["coverage"]["safety/many"]["collected"] == 20
    # the same project with another file of rows is another run
    (sharded.path / "machine2/checkout2/suites/rows.jsonl").write_text(rows.replace("good 3", "good 33"))
    subprocess.run([sys.executable, "-m", *command], cwd=checkout, check=True, capture_output=True, timeout=120)
    assert "run.data.files.suites/rows.jsonl is" in refused_anew(sharded, *checkouts)


def refused_anew(project: Project, *parts: str) -> str:
    for name in ("all.json", "all.samples.jsonl"):
        (project.path / name).unlink()
    return refused(project, *parts)


def test_a_shard_judges_no_gate(sharded: Project) -> None:
    result = sharded.run("--trust-shard=1/3")
    assert result.ret == pytest.ExitCode.OK
    assert {g["outcome"] for g in sharded.results()["gates"]} == {"skipped"}
    assert sharded.results()["run"]["selection"] == "partial"
    assert 0 < len(sharded.lines()) < 60


def test_the_merge_tells_github(sharded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = shards(sharded, 2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(sharded.path / "summary.md"))
    merged = merge(sharded, *parts)
    title = "file=thresholds/safety.yaml,line=5,title=Trust gate failed%3A score[at_least]"
    assert f"::error {title}::score = " in merged.stdout
    assert (sharded.path / "summary.md").read_text().startswith("## ❌ Trust: Failed")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(sharded.path / "no" / "summary.md"))
    merged = merge(sharded, *parts)
    assert merged.returncode == pytest.ExitCode.TESTS_FAILED
    assert "\nERROR: GITHUB_STEP_SUMMARY: " in merged.stdout


def test_shards_with_a_budget(sharded: Project) -> None:
    sharded.write("models.yaml", "bot: {provider: python, model: 'app:answer', price: {input: 1000, output: 1000}}\n")
    sharded.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    parts = shards(sharded, 2, "--trust-budget=30 tokens", model="bot")
    cuts = [sharded.results(part)["run"]["budget"]["cut"] for part in parts]
    assert all(cuts)
    merged = merge(sharded, *parts)
    found = sharded.results("all.json")
    assert "budget" not in found["run"]  # each shard had one of its own; what they left is unscored
    assert found["run"]["selection"] == "partial"
    assert {g["outcome"] for g in found["gates"]} == {"skipped"}
    assert merged.returncode == pytest.ExitCode.OK
    metric = found["metrics"]["safety/many.accuracy"]
    assert (metric["expected"], metric["scored"]) == (60, 60 - sum(cuts))


def test_epochs_of_shards(sharded: Project) -> None:
    sharded.run("--trust-epochs=2")
    results = sharded.results()
    merge(sharded, *shards(sharded, 2, "--trust-epochs=2"))
    found = sharded.results("all.json")
    assert telling(found) == telling(results)
    assert found["stability"] == results["stability"]


def refused(project: Project, *parts: str) -> str:
    found = merge(project, *parts)
    assert found.returncode == 4, found.stdout
    assert not (project.path / "all.json").exists()
    assert not (project.path / "all.samples.jsonl").exists()
    (line,) = found.stderr.strip().splitlines()
    return line


def change(project: Project, name: str, **run: object) -> None:
    path: Path = project.path / name
    document = json.loads(path.read_text())
    document["run"].update(run)
    path.write_text(json.dumps(document))


def test_what_cannot_be_merged(sharded: Project) -> None:
    one, two, three = shards(sharded, 3)
    assert refused(sharded, one, three).endswith("merge: shard 2/3 is missing")
    shutil.copy(sharded.path / one, sharded.path / "copy.json")
    assert refused(sharded, one, "copy.json", two, three).endswith("copy.json: is shard 1/3, and so is s1.json")
    change(sharded, "copy.json", shard={"index": 2, "count": 3, "of": {"safety/many": 60}})
    assert " is in s1.json too" in refused(sharded, one, "copy.json", three)
    change(sharded, two, seed=5)
    assert refused(sharded, one, two, three).endswith(
        "s2.json: run.seed is 5, and in s1.json it is 0: not shards of one run"
    )
    change(sharded, two, seed=0, model={"name": "other"})
    assert "s2.json: run.model.name is 'other', and in s1.json it is 'python:app:answer'" in refused(
        sharded, one, two, three
    )
    hashes = json.loads((sharded.path / two).read_text())["run"]["tasks"]
    hashes["safety/many"]["hashes"]["scorer"] = "another"
    change(sharded, two, model={"name": "python:app:answer"}, tasks=hashes)
    assert "s2.json: run.tasks.safety/many.hashes.scorer is 'another', and in s1.json it is" in refused(
        sharded, one, two, three
    )
    sharded.run()
    assert refused(sharded, one, "r.json").endswith(
        "r.json: is not a shard; only runs with --trust-shard=I/N can be merged"
    )


def test_shards_of_different_selections(sharded: Project) -> None:
    parts = shards(sharded, 2)
    sharded.run("--trust-shard=2/2", "-k", "0000 or 0001 or 0002 or 0003 or 0004 or 0005")
    shutil.copy(sharded.path / "r.json", sharded.path / parts[1])
    line = refused(sharded, *parts)
    assert "merge: the shards selected " in line
    assert line.endswith(" of 60 samples of safety/many; run every shard with the same selection")


def test_the_service_that_started_the_job_numbers_the_shard(
    project: Project, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    project.samples(20)
    monkeypatch.setenv("CI_NODE_INDEX", "2")
    monkeypatch.setenv("CI_NODE_TOTAL", "3")
    project.run("--trust-shard=auto", *mode)
    shard = project.results()["run"]["shard"]
    assert (shard["index"], shard["count"]) == (2, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3/2", "--trust-shard: expected I/N with I from 1 to N, such as 2/4, or auto, found '3/2'"),
        ("auto", "--trust-shard=auto: CI_NODE_TOTAL is not set; GitLab sets it together with CI_NODE_INDEX"),
    ],
)
def test_a_shard_that_is_none(value: str, message: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_NODE_INDEX", "1")
    monkeypatch.delenv("CI_NODE_TOTAL", raising=False)
    result = project.run(f"--trust-shard={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
