"""About 200 items of the data set on a real model, through every kind of engine; each loses a process in the middle.

    TRUSTLLM_REAL=DIR pytest -m live tests/plugin/test_plugin_interrupted_engines.py

Answers, metrics, scores and gates must be those of a run on the same engine that lost nothing. Needs the data set
beside the repository, and about half an hour on two cores.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import RayCluster
from user_project import Project, wait_for

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc"),
]
DATA = Path(__file__).parents[3] / "shared" / "trustllm" / "dataset.zip"
GENERATION = {"max_new_tokens": 24}
VLLM_ARGS = {"max_model_len": 2048, "dtype": "float32", "max_num_seqs": 8}
VLLM_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
Interrupt = Callable[[], None]


@pytest.fixture
def real() -> Path:
    if not DATA.exists():
        pytest.skip(f"no data set at {DATA}")
    directory = os.environ.get("TRUSTLLM_REAL")
    if not directory:
        pytest.skip("TRUSTLLM_REAL is not set: run tools/real_models.sh DIR --vllm, and set it to DIR")
    return Path(directory)


def compare(project: Project, entry: dict[str, Any], options: list[str], interrupt: Interrupt) -> None:
    """Run once undisturbed and once with an interruption after a quarter of the answers."""
    project.write("pytest.ini", "[pytest]\n")
    project.write("models.yaml", json.dumps({"real": {"generation": GENERATION, **entry}}))
    options = [*options, "-o", "trust_models=models.yaml", f"--trust-data={DATA}", "--trust-limit=9", "--trust-fresh"]

    def run(disturb: Interrupt | None) -> dict[str, Any]:
        before = project.stored()
        with ExitStack() as stack:
            running = project.start(*options, model="real")
            stack.callback(end_group, running)
            if disturb:
                assert wait_for(lambda: project.stored() >= before + 50, 900), project.output
                disturb()
            running.wait(1800)
        assert project.results()["usage"]["failed"] == 0
        assert wait_for(lambda: not project.processes()), "a process was left"
        return project.outcome()

    expected = run(None)
    assert sum(len(texts) for texts in expected["texts"].values()) > 200
    assert run(interrupt) == expected


def test_copies_of_a_local_model(project: Project, real: Path) -> None:
    entry = {"provider": "hf", "model": str(real / "SmolLM2-135M-Instruct"), "dtype": "float32"}

    def kill_a_copy() -> None:
        os.kill(project.process_with(b"models.local.replica_process"), signal.SIGKILL)

    compare(project, entry, ["--trust-device=cpu,cpu"], kill_a_copy)
    (restart,) = project.results()["run"]["model"]["about"]["restarts"]
    assert "SIGKILL" in restart


def test_a_server_of_the_run(project: Project, real: Path) -> None:
    entry = {
        "provider": "vllm",
        "model": str(real / "SmolLM2-135M-Instruct"),
        "executable": str(real / "vllm" / "bin" / "vllm"),
        "engine_args": VLLM_ARGS,
        "environment": VLLM_ENVIRONMENT,
        "startup_timeout": 900,
        "max_concurrency": 16,
    }

    def kill_the_server() -> None:
        os.kill(project.process_with(b"/vllm\0serve"), signal.SIGKILL)

    compare(project, entry, [], kill_the_server)
    (restart,) = project.results()["run"]["model"]["about"]["restarts"]
    assert "SIGKILL" in restart


@pytest.fixture
def endpoints(real: Path, tmp_path: Path) -> Iterator[list[tuple[str, subprocess.Popen[bytes]]]]:
    """Two servers of vLLM that somebody else started: their addresses and processes."""
    with ExitStack() as stack:
        found = []
        for number in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            options = [f"--{key.replace('_', '-')}={value}" for key, value in VLLM_ARGS.items()]
            command = [str(real / "vllm" / "bin" / "vllm"), "serve", str(real / "SmolLM2-135M-Instruct")]
            log = stack.enter_context((tmp_path / f"vllm-{number}.log").open("wb"))
            server = subprocess.Popen(
                [*command, "--host=127.0.0.1", f"--port={port}", "--served-model-name=smol", *options],
                env={**os.environ, **VLLM_ENVIRONMENT},
                cwd="/",  # not a process of the project
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(end_group, server)
            found.append((f"http://127.0.0.1:{port}/v1", server))
        for address, _ in found:
            assert wait_for(lambda address=address: answers(f"{address}/models"), 900)
        yield found


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        time.sleep(1)
        return False


def end_group(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_two_servers_that_others_started(
    project: Project, endpoints: list[tuple[str, subprocess.Popen[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    entry = {"provider": "openai", "model": "smol", "base_urls": [url for url, _ in endpoints], "max_concurrency": 8}
    compare(project, entry, [], lambda: end_group(endpoints[0][1]))


def test_a_cluster_of_three_nodes(project: Project, real: Path) -> None:
    pytest.importorskip("ray")
    entry = {"provider": "hf", "model": str(real / "SmolLM2-135M-Instruct"), "dtype": "float32"}
    cluster = RayCluster("1:0", "1:0", "1:0")
    try:
        compare(project, entry, [f"--trust-cluster={cluster.address}"], lambda: cluster.tell("kill 0"))
        (restart,) = project.results()["run"]["model"]["about"]["restarts"]
        assert "the copy on node" in restart
    finally:
        cluster.close()
