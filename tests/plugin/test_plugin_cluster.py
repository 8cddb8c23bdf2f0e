"""Models on a real Ray cluster of three nodes, one of which is killed in the middle of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_nodes import RayCluster
from user_project import Project, wait_for

pytest.importorskip("ray", reason="pip install 'pytest-trustllm[ray]'")
pytestmark = [
    pytest.mark.slow,  # a cluster starts in about ten seconds, and several processes load transformers
    pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc"),
]
TESTS = Path(__file__).parent.parent
USAGE_ERROR = pytest.ExitCode.USAGE_ERROR
COUNT = 150


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """Three nodes with one CPU each."""
    cluster = RayCluster("1:0", "1:0", "1:0")
    yield cluster
    cluster.close()


def run_and_lose_a_node(project: Project, cluster: RayCluster, model: str, *args: str) -> None:
    options = [f"--trust-cluster={cluster.address}", "--trust-fresh", "-o", "trust_models=models.yaml"]
    running = project.start(*options, *args, model=model)
    begin = project.stored()
    assert wait_for(lambda: project.stored() >= begin + 10, 120)
    cluster.tell("kill 0")
    cluster.tell("add 1:0")
    running.wait(240)


def test_a_lost_node_changes_no_answer_of_a_local_model(project: Project, cluster: RayCluster) -> None:
    project.samples(5 * COUNT)
    project.gates("metric: many.accuracy, at_least: 0.0")
    project.write("models.yaml", json.dumps({"tiny": {"provider": "demo", "generation": {"max_new_tokens": 400}}}))
    project.run("-o", "trust_models=models.yaml", model="tiny", timeout=240)
    expected = project.outcome()
    run_and_lose_a_node(project, cluster, "tiny", "--trust-batch-size=1")  # slow enough to be in the middle of it
    assert project.outcome() == expected
    assert len(expected["texts"]) == 5 * COUNT
    about = project.results()["run"]["model"]["about"]
    assert len(about["devices"]) == 3
    assert about["restarts"][0].startswith("the copy on node ")
    assert wait_for(lambda: not project.processes())


@pytest.fixture
def engine(project: Project) -> Path:
    """The directory of a project's engine, whose servers answer one prompt after the other, 0.3 s each."""
    engine = project.path / "engine"
    engine.mkdir()
    (engine / "slow").write_text("0.3")
    project.samples(COUNT)
    project.gates("metric: many.accuracy, at_least: 0.0")
    entry = {
        "provider": "server",
        "model": "m",
        "command": [sys.executable, str(TESTS / "scripted_engine.py"), "--port", "{port}", "--model", "m", str(engine)],
        "environment": {"ENGINE_KEY": "{key}"},
        "max_concurrency": 1,
    }
    project.write("models.yaml", json.dumps({"served": entry}))
    return engine


def processes_started(engine: Path) -> list[int]:
    """Return the process ids of an engine's servers, in the order of their starts."""
    return [int(line.split()[0]) for line in (engine / "starts").read_text().splitlines()]


def test_a_lost_node_changes_no_answer_of_a_server(project: Project, cluster: RayCluster, engine: Path) -> None:
    run_and_lose_a_node(project, cluster, "served")
    assert project.outcome()["texts"] == {f"{i:04}": [f"good {i}"[::-1]] for i in range(COUNT)}
    model = project.results()["run"]["model"]
    assert model["about"]["replicas"] == 3
    assert len(model["about"]["restarts"]) == 1
    started = processes_started(engine)
    assert len(started) >= 3
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def test_a_node_that_joins_gets_a_server(project: Project, cluster: RayCluster, engine: Path) -> None:
    (engine / "slow").write_text("2")  # a node takes ten seconds to join, more on a busy machine
    running = project.start(
        f"--trust-cluster={cluster.address}", "-o", "trust_models=models.yaml", "--trust-fresh", model="served"
    )
    assert wait_for(lambda: project.stored() >= 3, 120)
    cluster.tell("add 1:0")
    assert wait_for(lambda: len(processes_started(engine)) == 4, 90)
    *_, added = processes_started(engine)
    assert wait_for(lambda: str(added) in (engine / "answered-by").read_text().split(), 30)
    (engine / "slow").write_text("0.1")
    running.wait(240)
    assert project.outcome()["texts"] == {f"{i:04}": [f"good {i}"[::-1]] for i in range(COUNT)}
    about = project.results()["run"]["model"]["about"]
    assert about["replicas"] == 4
    assert "restarts" not in about
    assert (engine / "answered-by").read_text().split().count(str(added)) > 5


WRONG = {
    "more replicas than nodes": (
        {"provider": "server", "model": "m", "command": "sleep {port}", "replicas": 5},
        (
            "models: 'm': it needs room for 5 x a node, and the cluster has room for 3; "
            "use fewer replicas, or fewer GPUs for each, or add nodes"
        ),
    ),
    "too few GPUs": (
        {"provider": "server", "model": "m", "command": "sleep {port}", "tensor_parallel": 2},
        (
            "models: 'm': it needs room for 1 x 2 GPUs, and the cluster has room for 0; "
            "use fewer replicas, or fewer GPUs for each, or add nodes"
        ),
    ),
    "a server that does not come up": (
        {"provider": "server", "model": "m", "command": "false {port}"},
        "models: 'm': false did not start: exit status 1: nothing (its output: *) (on node *)",
    ),
    "no such program on the nodes": (
        {"provider": "vllm", "model": "m", "executable": "/nowhere/vllm"},
        "models: 'm': the program '/nowhere/vllm' is not there, or cannot be run (on node *)",
    ),
    "no such files on the nodes": (
        {"provider": "hf", "model": "/nowhere/model"},
        "models: 'm': /nowhere/model is not a directory (on node *)",
    ),
}


def test_what_a_cluster_cannot_do_is_one_line(project: Project, cluster: RayCluster) -> None:
    for entry, message in WRONG.values():
        project.write("models.yaml", json.dumps({"m": entry}))
        result = project.run(f"--trust-cluster={cluster.address}", "-o", "trust_models=models.yaml", model="m")
        assert result.ret == USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])
        assert len([line for line in result.errlines if line.strip()]) == 1


def test_a_cluster_that_cannot_be_reached_is_one_line(project: Project) -> None:
    result = project.run("--trust-cluster=127.0.0.1:1", model="demo", timeout=240)
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trust-cluster: no Ray cluster *'127.0.0.1:1'*"])
    assert len([line for line in result.errlines if line.strip()]) == 1
