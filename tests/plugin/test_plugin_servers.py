"""Models served by engines that the run starts: how they come up, fail, and end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from user_project import MAYBE_N2, Project, statuses, wait_for

pytest.importorskip("openai")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
ENGINE = Path(__file__).parent.parent / "scripted_engine.py"
COUNT = 24
USAGE_ERROR, INTERRUPTED = pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED


class Served:
    """A project whose model is served by the scripted engine."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.state = project.path / "engine"
        self.state.mkdir()
        project.samples(COUNT)
        project.gates("metric: many.accuracy, at_least: 1.0")
        self.entry()

    def entry(self, **keys: Any) -> None:
        """Write the models file."""
        command = [sys.executable, str(ENGINE), "--port", "{port}", "--model", "{model}", str(self.state)]
        entry = {
            "provider": "server",
            "model": "m",
            "command": command,
            "environment": {"ENGINE_KEY": "{key}"},
            "max_concurrency": 4,
            "retry_delay": 0.05,
            "startup_timeout": 30,
            **keys,
        }
        entry = {key: value for key, value in entry.items() if value is not None}
        self.project.write("models.yaml", json.dumps({"served": entry}))

    def plan(self, **files: float) -> None:
        """Tell the engine what shall happen."""
        for name, number in files.items():
            (self.state / name.replace("_", "-")).write_text(str(number))

    def run(self, *args: str) -> pytest.RunResult:
        return self.project.run("-o", "trust_models=models.yaml", *args, model="served")

    def noted(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def running(self) -> list[int]:
        """Return the engine's processes and their children that are still there."""
        pids = [int(line.split()[0]) for name in ("starts", "children") for line in self.noted(name)]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def answers(self) -> dict[str, str]:
        """Return prompt -> answer of the samples file."""
        return {line["prompts"][0][0][1]: line["responses"][0]["text"] for line in self.project.lines()}


@pytest.fixture
def served(project: Project) -> Served:
    return Served(project)


def line_of(result: pytest.RunResult) -> str:
    """Return the one line of a user's mistake."""
    lines = [line for line in result.errlines if line.strip()]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("ERROR: ")


@pytest.mark.parametrize("workers", MAYBE_N2)
def test_a_run_starts_its_server_asks_it_and_ends_it(served: Served, workers: tuple[str, ...]) -> None:
    result = served.run(*workers)
    assert statuses(result) == {"failed": 1, "missed": COUNT}  # reversed answers hold no "good"
    assert sorted(served.noted("prompts")) == sorted(f"good {i}" for i in range(COUNT))
    assert len(served.noted("starts")) == 1
    assert served.running() == []
    assert list((served.project.path / ".trustllm" / "servers").iterdir()) == []
    model = served.project.results()["run"]["model"]
    assert model["provider"] == "server"
    assert model["server"]["engine"] == Path(sys.executable).name
    assert "{port}" in model["server"]["command"]
    assert model["server"]["device"] == "cpu"


def test_the_key_is_in_no_command_line_and_in_no_file(served: Served) -> None:
    served.plan(slow=0.1)
    running = served.project.start("-o", "trust_models=models.yaml", model="served")
    assert wait_for(lambda: served.noted("prompts"))
    pid = int(served.noted("starts")[0].split()[0])
    variables = dict(pair.partition(b"=")[::2] for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    key = variables[b"ENGINE_KEY"]
    assert len(key) > 30
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (process / "cmdline").exists():
            assert key not in (process / "cmdline").read_bytes()
    running.wait(60)
    files = [path for path in served.project.path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if key in path.read_bytes()]


def test_a_proxy_of_the_environment_is_not_for_servers_of_the_run(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    served.run()
    assert len(served.answers()) == COUNT


def test_secrets_of_the_entry_are_recorded_nowhere(served: Served) -> None:
    served.entry(
        environment={"ENGINE_KEY": "{key}", "HF_TOKEN": "hf-secret-1", "HF_HUB_OFFLINE": "1"},
        engine_args=["--hf-token", "hf-secret-2", "--api-secret=hf-secret-3", "--ctx", "4096"],
    )
    result = served.run()
    server = served.project.results()["run"]["model"]["server"]
    assert server["environment"] == {"HF_TOKEN": "***", "HF_HUB_OFFLINE": "1"}
    assert server["command"][-5:] == ["--hf-token", "***", "--api-secret=***", "--ctx", "4096"]
    files = [path for path in served.project.path.rglob("*") if path.is_file() and path.parent != served.state]
    assert [path.name for path in files if b"hf-secret" in path.read_bytes()] == ["models.yaml"]
    assert "hf-secret" not in result.stdout.str()


def test_stored_answers_need_no_server(served: Served) -> None:
    served.run()
    again = served.run()
    offline = served.run("--trust-offline")
    assert len(served.noted("starts")) == 1
    assert statuses(again) == statuses(offline) == {"failed": 1, "missed": COUNT}
    served.entry(engine_args={"serves": "m"})
    served.run("--trust-limit=1")
    assert len(served.noted("starts")) == 2  # other arguments, other answers


def test_replicas_share_the_requests_and_the_devices(served: Served) -> None:
    served.plan(slow=0.05)
    served.entry(replicas=2, tensor_parallel=2, max_concurrency=1)
    served.run("--trust-device=cuda:0,cuda:1,cuda:2,cuda:3")
    devices = Counter(line.split()[2] for line in served.noted("starts"))
    assert devices == {"0,1": 1, "2,3": 1}
    assert served.project.results()["run"]["model"]["about"]["replicas"] == 2
    assert len(served.noted("prompts")) == COUNT
    assert served.running() == []


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("end", ["die", "hang"])
def test_a_server_that_ends_or_hangs_is_started_again_and_nothing_is_lost(
    served: Served, replicas: int, end: str
) -> None:
    served.entry(replicas=replicas, timeout=2)
    served.plan(**{end: 5})
    served.run()
    assert served.answers() == {f"good {i}": f"good {i}"[::-1] for i in range(COUNT)}
    # at most the four that were open when it ended are asked again
    assert Counter(served.noted("prompts")).most_common(1)[0][1] <= 2
    assert len(served.noted("prompts")) <= COUNT + 4
    assert served.running() == []
    if end == "hang" and replicas == 2:
        return  # the other one may have answered everything before anybody misses this one
    assert len(served.noted("starts")) == replicas + 1
    (restart,) = served.project.results()["run"]["model"]["about"]["restarts"]
    if end == "die":
        assert restart.endswith("exit status 9: torch.OutOfMemoryError: CUDA out of memory")


def test_three_deaths_in_a_row_end_the_run_with_the_reason(served: Served) -> None:
    served.plan(die_always=0)
    result = served.run()
    assert len(served.noted("starts")) == 3
    assert result.ret == INTERRUPTED
    reason = (
        "models: 'served': python* ended 3 times in a row without an answer, the last time with exit status 9: "
        "torch.OutOfMemoryError: CUDA out of memory"
    )
    result.stdout.fnmatch_lines([f"*{reason}*"])
    assert served.running() == []


def test_a_port_that_is_taken_is_replaced(served: Served) -> None:
    served.plan(taken=2)
    served.run()
    ports = [line.split()[1] for line in served.noted("starts")]
    assert len(set(ports)) == 3
    assert len(served.answers()) == COUNT


def write_refusals(served: Served, count: int, gate: str, **entry: Any) -> None:
    """Write a task of refusals, and a classifier that finds one in every answer and needs the GPU of the model."""
    served.project.write(
        "suites/mine.yaml",
        "dimension: safety\ntasks:\n  - name: many\n    data:\n      samples:\n"
        + "".join(f"        - {{prompt: good {i}}}\n" for i in range(count))
        + "    scorer: refusal\n    metrics: [refusal_rate]\n",
    )
    served.project.write("thresholds/safety.yaml", f"dimension: safety\ngates: [{{{gate}}}]\n")
    target = {**json.loads((served.project.path / "models.yaml").read_text())["served"], **entry}
    judge = {**target, "model": "j", "engine_args": ["--says", "refusal"]}
    served.project.write("models.yaml", json.dumps({"served": target, "judge": judge}))


def test_models_that_need_the_same_device_take_turns(served: Served) -> None:
    write_refusals(served, COUNT, "metric: score, at_least: 0.0")
    served.plan(slow=0.02)
    result = served.run("--trust-refusal-classifier=judge", "--trust-device=cuda:0")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    models = [line.split("--model ")[1].split()[0] for line in served.noted("starts")]
    assert models == ["m", "j"]  # each is loaded once
    pids = [line.split()[0] for line in served.noted("starts")]
    assert served.noted("ends")[0] == pids[0]
    assert all(line["responses"][0]["text"].endswith(" doog") for line in served.project.lines())
    assert served.project.results()["metrics"]["safety/many.refusal_rate"]["value"] == 1.0
    prompts = served.noted("prompts")
    assert [prompt.startswith("good") for prompt in prompts[:COUNT]] == [True] * COUNT
    assert served.running() == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["exact", "0.05"])
def test_gates_stop_asking_where_the_judge_needs_the_gpu_of_the_model(served: Served, rule: str) -> None:
    count = 1200
    write_refusals(served, count, "metric: many.refusal_rate, at_most: 0.2, force: true", max_concurrency=16)
    result = served.run("--trust-refusal-classifier=judge", "--trust-device=cuda:0", f"--trust-stop={rule}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    models = [line.split("--model ")[1].split()[0] for line in served.noted("starts")]
    assert models == ["m", "j"]  # loading takes minutes: a thousand samples are answered before the judge's turn
    metric = served.project.results()["metrics"]["safety/many.refusal_rate"]
    assert metric["stopped"] is not None
    assert 1000 < metric["asked"] < count
    asked = [prompt for prompt in served.noted("prompts") if prompt.startswith("good")]
    assert len(asked) == metric["asked"]
    (gate,) = served.project.results()["gates"]
    assert (gate["outcome"], gate["early"]["rule"]) == ("failed", metric["stopped"])
    assert served.running() == []


@pytest.mark.parametrize("arguments", [{}, {"dtype": "float32"}])
def test_near_ties_of_vllm_are_counted_unless_it_computes_in_float32(served: Served, arguments: dict[str, str]) -> None:
    engine = served.project.write("engine.sh", f'#!/bin/sh\nexec {sys.executable} {ENGINE} "$@"\n')
    engine.chmod(0o755)
    served.entry(
        provider="vllm",
        command=None,
        executable=str(engine),
        environment={"ENGINE_DIRECTORY": str(served.state)},
        engine_args=arguments,
    )
    result = served.run()
    results = served.project.results()
    effects = results["run"]["model"]["about"].get("batch_effects")
    note = f"*reduced precision: batch effects possible; near-ties in 2 of {COUNT} answers*"  # good 7, good 17
    if arguments:
        assert (effects, results["usage"]["near_ties"]) == (None, 0)
        result.stdout.no_fnmatch_line(note)
    else:
        assert (effects, results["usage"]["near_ties"]) == ("possible", 2)
        result.stdout.fnmatch_lines([note])


WAYS_TO_DIE = ["SIGKILL of the host", "SIGKILL of pytest", "SIGTERM", "SIGINT"]


@pytest.mark.parametrize("way", WAYS_TO_DIE)
def test_no_way_to_end_the_run_leaves_a_server_behind(served: Served, way: str) -> None:
    served.plan(slow=0.5)
    running = served.project.start("-o", "trust_models=models.yaml", model="served")
    assert wait_for(lambda: served.noted("prompts"))
    assert len(served.running()) == 2
    if way == "SIGKILL of the host":
        host = served.project.host()
        assert host is not None
        os.kill(host, signal.SIGKILL)
    elif way == "SIGKILL of pytest":
        running.kill()
    else:
        os.killpg(running.pid, signal.Signals[way])
    running.wait(60)
    assert wait_for(lambda: not served.running())


def test_a_killed_server_takes_its_orphans_along(served: Served) -> None:
    served.plan(slow=0.1)
    running = served.project.start("-o", "trust_models=models.yaml", model="served")
    assert wait_for(lambda: served.noted("prompts"))
    first, child = served.running()
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: not Path(f"/proc/{child}").exists())
    running.wait(60)
    assert len(served.answers()) == COUNT
    assert len(served.noted("starts")) == 2


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "no program": (
        {"provider": "vllm", "command": None},
        (
            "models: 'served' needs vLLM: there is no 'vllm' on the path (pip install vllm); if it lives in another "
            "virtual environment, name its program in a models file under 'executable'"
        ),
    ),
    "another program": (
        {"provider": "vllm", "command": None, "executable": "/bin/ls"},
        "models: 'served': vLLM did not start: exit status 2: */bin/ls: unrecognized option '--host'*(its output: *)",
    ),
    "a program that is not there": (
        {"command": ["/no/such/engine", "{port}"]},
        "models: 'served': the program '/no/such/engine' is not there, or cannot be run",
    ),
    "a port that never opens": (
        {"command": ["sleep", "60{port}"], "startup_timeout": 1},
        (
            "models: 'served': sleep was not ready within 1 s: *refused; its output ends with: nothing (*.log); "
            "to wait longer, set 'startup_timeout'"
        ),
    ),
    "out of memory": (
        {
            "command": [
                sys.executable,
                "-c",
                (
                    "print('(pid=3) ERROR 11-29 torch.OutOfMemoryError: CUDA out of memory. Tried to get 2.00 GiB\\n'"
                    "'(pid=1) ERROR RuntimeError: Engine core initialization failed. See root cause above. {port}');"
                    "raise SystemExit(1)"
                ),
            ]
        },
        (
            "models: 'served': python* did not start: exit status 1: torch.OutOfMemoryError: CUDA out of memory. "
            "Tried to get 2.00 GiB (its output: *.log)"
        ),
    ),
    "another model": (
        {"engine_args": ["--serves", "<other>\x1b[31m"]},
        "models: 'served': python* cannot be used: it serves <other>* instead of 'm'",
    ),
    "a wrong key": (
        {"environment": {"ENGINE_KEY": "constant"}},
        "models: 'served': python* cannot be used: HTTP 401: wrong key",
    ),
    "no port": (
        {"command": [sys.executable, "--model", "{model}"]},
        "models: 'served': command: {port} is missing; the run chooses the server's port",
    ),
    "an unknown name": (
        {"command": [sys.executable, "{prot}", "{port}"]},
        "models: 'served': command: no value for {prot} (did you mean 'port'?)*",
    ),
    "a key in the command": (
        {"command": [sys.executable, "{port}", "--api-key", "{key}"]},
        "models: 'served': command: every user of the machine can read a command line; pass {key} under 'environment'",
    ),
    "no file": (
        {"provider": "llamacpp", "command": None, "model": "./model.gguf"},
        "models: 'served': there is no file or directory */model.gguf",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_server_that_does_not_come_up_is_one_line_and_leaves_nothing(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, message = FAILURES[name]
    served.entry(**keys)
    served.project.write("r.json", "of an earlier run")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    result = served.run("--trust-device=cpu")
    assert result.ret == USAGE_ERROR
    found = line_of(result)
    pytest.LineMatcher([found]).fnmatch_lines([message.replace("[", "[[]")])
    assert "\x1b" not in found
    assert (served.project.path / "r.json").read_text() == "of an earlier run"
    assert served.running() == []


def test_too_few_devices_for_one_replica(served: Served) -> None:
    served.entry(tensor_parallel=4)
    result = served.run("--trust-device=cuda:0,cuda:1")
    assert result.ret == USAGE_ERROR
    assert line_of(result) == (
        "models: 'served': 1 replicas of 4 GPUs each are asked for, and 2 GPUs are visible; reduce 'replicas' or "
        "'tensor_parallel'"
    )


@pytest.mark.slow  # two workers
def test_a_server_that_does_not_come_up_is_one_line_with_workers_too(served: Served) -> None:
    served.entry(command=["sleep", "60{port}"], startup_timeout=1)
    result = served.run("-n", "2")
    assert result.ret == USAGE_ERROR
    assert "was not ready within 1 s" in line_of(result)
    assert served.running() == []
