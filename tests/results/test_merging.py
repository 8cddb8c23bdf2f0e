"""Shards to one run: what any of them knows is kept, and what two of them know differently is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import saved_run

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.results.merge import ShardResults, check_shards, join_shards


def part(index: int, count: int = 3, **run: Any) -> ShardResults:
    """A shard that asked one sample of a task of its own."""
    task = f"safety/t{index}"
    shard = {"index": index, "count": count, "of": {f"safety/t{i}": 1 for i in range(1, count + 1)}}
    about = {"id": f"run{index}", "started": f"2026-01-0{index}", "data": files(), "shard": shard, **run}
    document = saved_run.results(run=about, coverage={task: dict(saved_run.COVERED)})
    return ShardResults(
        Path(f"s{index}.json"), document, Path(f"s{index}.samples.jsonl"), [saved_run.sample_line(task=task)]
    )


def files(**hashes: str) -> dict[str, Any]:
    return {"source": "data.zip", "files": {f"safety/{name}.json": value for name, value in hashes.items()}}


def test_the_hashes_of_all_shards_are_kept() -> None:
    parts = [part(1, data=files(a="1")), part(2, data=files(a="1", b="2")), part(3, data=files(c="3"))]
    check_shards(parts)
    run = join_shards(parts, "all.samples.jsonl")["run"]
    assert run["data"] == files(a="1", b="2", c="3")


def test_what_only_some_shards_know_of_models_is_kept() -> None:
    """A shard that asked a model nothing has its name alone."""
    parts = [
        part(1, roles={"judge": {"name": "j"}}),
        part(2, roles={"judge": {"name": "j"}}, model={"name": "m", "revision": "r1"}),
        part(3, roles={"judge": {"name": "j", "revision": "r2"}}),
    ]
    check_shards(parts)
    run = join_shards(parts, "all.samples.jsonl")["run"]
    assert run["model"] == {"name": "m", "revision": "r1"}
    assert run["roles"] == {"judge": {"name": "j", "revision": "r2"}}


CONFLICTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # name: (run of the second shard, run of the third, what differs); the first knows nothing of it
    "a data file": (
        {"data": files(a="1")},
        {"data": files(a="2")},
        "run.data.files.safety/a.json is '2', and in s2.json",
    ),
    "a task's version": (
        {"task_versions": {"safety/x": 1}},
        {"task_versions": {"safety/x": 2}},
        "run.task_versions.safety/x is 2, and in s2.json it is 1",
    ),
    "a model's revision": (
        {"model": {"name": "m", "revision": "r1"}},
        {"model": {"name": "m", "revision": "r2"}},
        "run.model.revision is 'r2', and in s2.json it is 'r1'",
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_two_shards_that_differ_are_no_shards_of_one_run_whatever_the_first_has(name: str) -> None:
    second, third, words = CONFLICTS[name]
    with pytest.raises(ResultsError) as e:
        check_shards([part(1), part(2, **second), part(3, **third)])
    assert str(e.value).startswith(f"s3.json: {words}")


def model(**about: Any) -> dict[str, Any]:
    return {"name": "m", "id": "m", "about": {"licence": "mit", **about}}


def test_what_any_shard_saw_of_the_api_is_kept() -> None:
    parts = [
        part(1, model=model(answered_by={"m": 3}, adapted=["seed is not sent: why"])),
        part(2, model=model(answered_by={"m": 2, "another": 1})),
        part(3, model=model(answered_by={"m": 1}, adapted=["seed is not sent: why", "stop is not sent: why"])),
    ]
    check_shards(parts)
    assert join_shards(parts, "all.samples.jsonl")["run"]["model"] == model(
        answered_by={"m": 6, "another": 1}, adapted=["seed is not sent: why", "stop is not sent: why"]
    )


def test_blocked_samples_of_some_shards_are_counted() -> None:
    parts = [part(1), part(2), part(3)]
    parts[1].results["coverage"]["safety/t1"] = {**saved_run.COVERED, "collected": 0, "deselected": 1, "blocked": 2}
    assert join_shards(parts, "all.samples.jsonl")["coverage"]["safety/t1"]["blocked"] == 2


def test_a_shard_with_pending_samples_makes_the_whole_partial() -> None:
    parts = [part(1), part(2), part(3)]
    assert join_shards(parts, "all.samples.jsonl")["run"]["selection"] == "full"
    parts[1].run["batches"] = {"mode": "submit", "samples": 1, "pending": [], "asked_directly": []}
    run = join_shards(parts, "all.samples.jsonl")["run"]
    assert run["selection"] == "partial"
    assert "batches" not in run
