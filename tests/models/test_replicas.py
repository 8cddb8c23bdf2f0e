"""Copies of a model in processes of their own, two of them on the CPU."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local import replicas
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.local.replicas import AnswerQueue, PooledRequest, Replicas, devices_of
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request

pytest.importorskip("torch")


@pytest.fixture
def pair(llama_directory: Path, make_spec: Any) -> Iterator[Any]:
    model: Any = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu,cpu", batch_size=3))
    yield model
    model._stop()


def requests(count: int) -> list[Request]:
    return [
        Request((("user", "the cat sat " * (n % 7 + 1)),), Generation(float(n % 2), max_new_tokens=n % 20 + 1), seed=n)
        for n in range(count)
    ]


def processes(model: Any) -> list[int]:
    return [copy._process.pid for copy in model._copies]


@dataclass(eq=False)
class ScriptedCopy:
    """A copy that answers at once, and ends when it is given a request of ``kills``."""

    kills: frozenset[int]
    place: str = "cpu"
    dtype: str = "float32"
    loads_elsewhere: bool = False
    load: float = 0.0
    most: int = 0
    begun: int = 0
    ended: bool = False
    given: dict[int, PooledRequest] = field(default_factory=dict)

    def begin(self, answers: AnswerQueue) -> None:
        self.begun += 1
        self.ended = False
        self.answers = answers
        answers.put((self, {"info": {"dtype": self.dtype, "about": {"batch_size": 4}}}))

    def give(self, pooled: PooledRequest) -> None:
        if pooled[1] in self.kills and not self.ended:
            self.ended = True
            self.answers.put((self, None))
        elif not self.ended:
            self.answers.put((self, {"number": pooled[1], "response": {"text": str(pooled[1])}}))

    def end(self) -> str:
        return "signal SIGKILL"

    def stop(self) -> None:
        self.ended = True
        self.answers.put((self, None))


def scripted(kills: set[int], count: int = 2) -> tuple[Replicas, list[ScriptedCopy]]:
    copies = [ScriptedCopy(frozenset(kills)) for _ in range(count)]
    return Replicas(ModelSpec("m", "hf", "m"), copies), copies


def test_a_request_that_ends_every_copy_is_an_error_and_the_others_are_answered() -> None:
    model, copies = scripted({7})
    found = dict(model.generate(RequestQueue.only(requests(40))))
    assert sorted(found) == list(range(40))
    assert {number for number, response in found.items() if response.error is not None} == {7}
    assert found[7].error == "the model's process ended while it answered this: signal SIGKILL"
    assert sum(copy.begun for copy in copies) == 2 + 2
    assert model.info["about"]["restarts"] == ["the copy on cpu was started again: signal SIGKILL"] * 2


def test_a_copy_that_ends_three_times_without_an_answer_ends_the_run() -> None:
    model, (copy,) = scripted(set(range(40)), count=1)
    expected = (
        "models: 'm': its process on cpu ended 3 times in a row without an answer, the last time with signal SIGKILL"
    )
    with pytest.raises(ModelError) as e:
        list(model.generate(RequestQueue.only(requests(40))))
    assert str(e.value) == expected
    assert copy.begun == 3


def test_copies_that_would_give_other_answers_are_refused() -> None:
    old_node = ScriptedCopy(frozenset(), "node b", "float32")
    with pytest.raises(ModelError) as e:
        Replicas(ModelSpec("m", "hf", "m"), [ScriptedCopy(frozenset(), "node a", "bfloat16"), old_node])
    assert str(e.value) == (
        "models: 'm': the copies on node a and node b would give other answers (dtype: bfloat16 and float32); "
        "set it in a models file, or install the same versions everywhere"
    )


def test_an_added_copy_that_would_give_other_answers_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_GROW_EVERY", 0.0)
    fitting = ScriptedCopy(frozenset(), "node c", "bfloat16")
    added = [[ScriptedCopy(frozenset(), "node b")], [fitting]]
    first = ScriptedCopy(frozenset(), "node a", "bfloat16")
    model = Replicas(ModelSpec("m", "hf", "m"), [first], grow=lambda count: added.pop(0) if added else [])
    found = dict(model.generate(RequestQueue.only(requests(200))))
    assert sorted(found) == list(range(200))
    assert [copy.place for copy in model._copies] == ["node a", "node c"]
    assert model.info["about"]["restarts"] == [
        "the copy on node b is not used, because it would give other answers (dtype: bfloat16 and float32)"
    ]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="sets how many cores there are")
@pytest.mark.parametrize(
    ("devices", "own", "threads"),
    [
        (["cpu", "cpu", "cpu"], None, ["2", "2", "2"]),
        (["cpu"] * 9, None, ["1"] * 9),
        (["cuda:0", "cpu"], None, [None, "7"]),
        (["cpu", "cpu"], "5", ["5", "5"]),
    ],
)
def test_copies_on_the_cpu_share_its_cores(
    monkeypatch: pytest.MonkeyPatch, devices: list[str], own: str | None, threads: list[str | None]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    given: list[str | None] = []

    def start(*_: Any, env: dict[str, str], **__: Any) -> Any:
        given.append(env.get("OMP_NUM_THREADS"))
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "Popen", start)
    for copy in replicas.copies_on(devices, ModelSpec("m", "hf", "m"), LoadSettings()):
        with pytest.raises(FileNotFoundError):
            copy.begin(queue.SimpleQueue())
    assert given == threads


@pytest.mark.slow  # two processes load transformers
def test_copies_share_the_work_and_answer_as_one_model_does(pair: Any, llama_directory: Path, make_spec: Any) -> None:
    given: list[int] = []
    for copy in pair._copies:
        give = copy.give
        copy.give = lambda pooled, give=give, copy=copy: (given.append(pair._copies.index(copy)), give(pooled))
    single: Any = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu"))
    asked = requests(60)
    expected, found = dict(single.generate(RequestQueue.only(asked))), dict(pair.generate(RequestQueue.only(asked)))
    assert sorted(found) == list(range(60))
    assert [found[i].text for i in range(60)] == [expected[i].text for i in range(60)]
    assert 6 <= sum(given) <= 54  # the first to be free gets more, but each has its start
    identity = [{k: v for k, v in model.info.items() if k != "about"} for model in (single, pair)]
    assert identity[0] == identity[1]  # answers of one device are found by several
    assert pair.info["about"]["devices"] == ["cpu", "cpu"]


@pytest.mark.slow  # two processes load transformers
def test_the_costliest_prompt_goes_first_and_the_others_to_whoever_has_least_left(pair: Any) -> None:
    given: list[tuple[int, int]] = []
    for copy in pair._copies:
        give = copy.give
        copy.give = lambda pooled, give=give, copy=copy: (
            given.append((pooled[1], pair._copies.index(copy))),
            give(pooled),
        )
    asked = [Request((("user", "the cat"),), Generation(max_new_tokens=most)) for most in (2,) * 11 + (40,)]
    assert len(dict(pair.generate(RequestQueue.only(asked)))) == 12
    assert given == [(11, 0), *((n, 1) for n in range(6)), *((n, 0) for n in range(6, 11))]  # six fit in a copy


@pytest.mark.slow  # two processes load transformers
def test_a_killed_copy_is_started_again_and_nothing_is_lost(pair: Any, llama_directory: Path, make_spec: Any) -> None:
    asked = requests(60)
    single: Any = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu"))
    expected = dict(single.generate(RequestQueue.only(asked)))
    pids = processes(pair)
    running = pair.generate(RequestQueue.only(asked))
    found = dict([next(running)])
    os.kill(pids[1], signal.SIGKILL)
    for number, response in running:
        assert number not in found
        found[number] = response
    assert [found[i].text for i in range(60)] == [expected[i].text for i in range(60)]
    assert processes(pair)[0] == pids[0]
    assert processes(pair)[1] != pids[1]
    assert pair.info["about"]["restarts"] == ["the copy on cpu was started again: signal SIGKILL"]


@pytest.mark.slow  # two processes load transformers
def test_a_copy_that_cannot_be_loaded_says_why(llama_directory: Path, make_spec: Any) -> None:
    with pytest.raises(ModelError, match=r"^models: device 'tpu' is not usable: "):
        PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu,tpu"))


@pytest.mark.slow  # two processes load transformers
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for processes that are not its children: Linux only")
def test_copies_end_with_their_parent_and_with_no_signal_of_its_group(llama_directory: Path) -> None:
    code = f"""
import os, sys
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request
model = PROVIDER.load(ModelSpec("m", "hf", {str(llama_directory)!r}), LoadSettings(device="cpu,cpu"))
print(*[copy._process.pid for copy in model._copies], flush=True)
sys.stdin.readline()
requests = [Request((("user", "the cat"),), Generation(0.0, max_new_tokens=2))] * 8
print(len([r for _, r in model.generate(RequestQueue.only(requests)) if r.error is None]), flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == b"8\n"
    ends = [os.pidfd_open(pid) for pid in pids]
    parent.kill()
    parent.communicate()
    for end in ends:
        assert select.select([end], [], [], 30)[0]
        os.close(end)


def test_which_devices_a_name_means(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert devices_of("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    assert devices_of("cpu") == ["cpu"]
    # torch counts what CUDA_VISIBLE_DEVICES leaves; there may be no GPU here to count
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("auto") == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices_of("auto") == ["auto"]


@pytest.mark.slow  # two processes load transformers
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment of processes: Linux only")
def test_copies_see_the_devices_that_the_run_may_see(
    llama_directory: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    model: Any = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu,cpu"))
    seen = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in processes(model)]
    model._stop()
    assert [b"CUDA_VISIBLE_DEVICES=3,5" in variables for variables in seen] == [True, True]
