"""The model host: who may talk to it, what it does with nonsense, and that it never outlives its parent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.config.typed import checker
from pytest_trustllm.engine.client import HostClient, HostProcess, Records
from pytest_trustllm.engine.keys import key_of
from pytest_trustllm.errors import HostError, TrustLLMError
from pytest_trustllm.formats import Record
from pytest_trustllm.models import frames
from pytest_trustllm.registry import Registry

SUITE = """
dimension: safety
tasks:
- name: echo
  data: {samples: [{prompt: good, label: good}, {prompt: bad, label: good}, {prompt: good too, label: good}]}
  scorer: contains
  metrics: [mean]
"""
APP = "def answer(prompt): return prompt\n"
KEYS = [key_of("m", "safety/echo", sample) for sample in ("0000", "0001", "0002")]


def config(where: Path, **changes: Any) -> dict[str, Any]:
    (where / "mine.yaml").write_text(SUITE)
    (where / "app.py").write_text(changes.pop("app", APP))
    spec = {"name": "m", "provider": "python", "target": "app:answer", "revision": None, "kind": "chat", "options": {}}
    return {
        "models": {"m": spec},
        "fixture": False,
        "roles": {},
        "load": {"device": "cpu", "batch_size": None, "max_concurrency": None},
        "suites": [{"path": str(where / "mine.yaml"), "builtin": False, "package": ""}],
        "data": "sample",
        "card": None,
        "audited": None,
        "root": str(where),
        "registry": Registry().added(),
        "sys_path": [str(where), *sys.path],
        "store": str(where / "store"),
        "fresh": False,
        "offline": False,
        "seed": 0,
        "epochs": 1,
        "judge_votes": 1,
        "blocked": "refusal",
        "batch": None,
        "budget": [],
        "before": {},
        **changes,
    }


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host that many tests knock at; nobody sends it a plan."""
    made = HostProcess(config(tmp_path_factory.mktemp("idle")))
    yield made
    made.stop()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostProcess]:
    made = HostProcess(config(tmp_path))
    yield made
    made.stop()


Connect = Callable[[HostProcess], HostClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that makes clients; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(host: HostProcess) -> HostClient:
            client = HostClient(host.address, host.token)
            stack.callback(client.close)
            return client

        yield made


def status(host: HostProcess) -> dict[str, Any]:
    client = HostClient(host.address, host.token)
    try:
        return client.call("status")
    finally:
        client.close()


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_client_gets_the_records_of_its_plan(connect: Connect, host: HostProcess) -> None:
    client = connect(host)
    assert client.call("plan", keys=KEYS, gates=[], stop=None) == {"ok": True}
    records = Records(client, KEYS)
    found = [records.get(key) for key in reversed(KEYS)]
    assert [status for status, _, _ in found] == ["passed", "missed", "passed"]
    assert json.loads(found[0][1])["id"] == "0002"
    transcript = client.call("detail", key=KEYS[1])["transcript"]
    assert transcript["responses"][0]["text"] == "bad"
    assert len(host.transcript.read_text(encoding="ascii").splitlines()) == 3
    end = client.call("finish")
    assert end["plan"]["keys"] == KEYS
    assert end["usage"]["m"]["requests"] == 3


def test_only_its_owner_can_reach_the_socket(idle: HostProcess) -> None:
    assert stat.S_IMODE(idle.directory.stat().st_mode) == 0o700
    assert idle.address == f"unix:{idle.directory}/host"
    assert idle.transcript.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "hello",
    [
        {"token": "0" * 32},
        {"token": ""},
        {"token": None},
        {"token": ["x"]},
        {"token": "\u00e9"},
        {},
        [],
        None,
        "token",
        {"op": "status"},
    ],
    ids=str,
)
def test_a_wrong_token_is_hung_up_on(idle: HostProcess, hello: object) -> None:
    with frames.connect(idle.address) as sock:
        sock.settimeout(20)
        frames.send(sock, hello)
        with contextlib.suppress(OSError):
            frames.send(sock, {"op": "status"})
        with contextlib.suppress(ConnectionError):
            assert frames.receive(sock) is None
    assert status(idle)["done"] == 0


def test_the_token_differs_between_runs(tmp_path: Path, host: HostProcess) -> None:
    other = HostProcess(config(tmp_path))
    try:
        assert other.token != host.token
        assert len(host.token) >= 32
    finally:
        other.stop()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">I", frames.MAX_FRAME + 1) + b"{}",
        struct.pack(">I", 2**32 - 1),
        struct.pack(">I", 5) + b"{}",
        struct.pack(">I", 7) + b"no json",
        struct.pack(">I", 3) + b"\xff\xfe\xfd",
        struct.pack(">I", 0),
        b"\x00\x00",
        b"",
    ],
    ids=repr,
)
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "client"])
def test_junk_ends_its_connection_and_nothing_else(idle: HostProcess, junk: bytes, known: bool) -> None:
    with frames.connect(idle.address) as sock:
        sock.settimeout(20)
        if known:
            frames.send(sock, {"token": idle.token})
        with contextlib.suppress(OSError):
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert frames.receive(sock) is None
    assert status(idle)["done"] == 0
    assert "Traceback" not in (idle.directory / "host.log").read_text()


def test_a_stranger_is_not_listened_to_at_length(idle: HostProcess) -> None:
    with frames.connect(idle.address) as sock:
        sock.settimeout(20)
        sock.sendall(frames.LENGTH.pack(frames.MAX_HELLO + 1))  # and no more: it must not wait for the rest
        assert frames.receive(sock) is None


@pytest.mark.parametrize(
    ("op", "more", "message"),
    [
        ("nonsense", {}, "the model host failed: *"),
        ("detail", {}, "the model host failed: KeyError: 'key'"),
        ("ask", {"model": "none", "messages": [], "generation": {"stop": []}, "seed": 0}, "*"),
    ],
)
def test_an_impossible_call_is_an_answer_and_not_the_end(
    connect: Connect, idle: HostProcess, op: str, more: dict[str, Any], message: str
) -> None:
    client = connect(idle)
    with pytest.raises(TrustLLMError) as e:
        client.call(op, **more)
    assert str(e.value).startswith(message.rstrip("*"))
    assert client.call("status")["done"] == 0


def test_an_unknown_sample_is_an_error_of_its_own(connect: Connect, host: HostProcess) -> None:
    client = connect(host)
    keys = [key_of("m", "safety/echo", "0009"), key_of("m", "safety/echo", "0000")]
    client.call("plan", keys=keys, gates=[], stop=None)
    statuses = {key: client.call("need", keys=[key])["records"][key] for key in keys}
    assert statuses[keys[0]][0] == "error"
    record = json.loads(statuses[keys[0]][1])
    checker(Record)(record)  # readers of the samples file reject any other
    assert record["reason"] == "safety/echo: no sample '0009'"
    assert statuses[keys[1]][0] == "passed"


def test_it_ends_when_its_standard_input_closes(tmp_path: Path) -> None:
    host = HostProcess(config(tmp_path))
    process = host._process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0
    assert not host.directory.exists()
    with pytest.raises(HostError, match=r"^the model host ended during the run$"):
        HostClient(host.address, host.token).call("status")
    host.stop()  # twice is no harm


PARENT = """
import json, sys
from pytest_trustllm.engine.client import HostProcess
host = HostProcess(json.load(sys.stdin))
print(json.dumps([host._process.pid, str(host.directory)]), flush=True)
import time; time.sleep(60)
"""


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(config(tmp_path)))
        parent.stdin.close()
        pid, directory = json.loads(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
    watch = os.pidfd_open(pid) if alive(pid) else None
    if watch is not None:
        assert select.select([watch], [], [], 15)[0], "the host outlived its parent"
    assert not Path(directory).exists()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_signals_are_pytests_business(host: HostProcess, signal_: signal.Signals) -> None:
    os.kill(host._process.pid, signal_)
    assert status(host)["done"] == 0


def test_a_host_that_died_is_one_line(connect: Connect, host: HostProcess) -> None:
    client = connect(host)
    os.kill(host._process.pid, signal.SIGKILL)
    host._process.wait()
    with pytest.raises(HostError, match=r"^the model host ended during the run$"):
        client.call("status")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "/none"}, "--trust-data: /none does not exist"),
        (
            {"suites": [{"path": "/none.yaml", "builtin": False, "package": ""}]},
            "/none.yaml: cannot be read: No such file or directory",
        ),
        (
            {"registry": {"scorers": {"x": {"module": "no_such_module", "attribute": "X", "file": ""}}}},
            "the model host did not start: ModuleNotFoundError: No module named 'no_such_module'",
        ),
    ],
)
def test_a_host_that_cannot_start_says_why_and_leaves_nothing(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with pytest.raises(HostError) as e:
        HostProcess(config(tmp_path, **changes))
    assert str(e.value) == message
    assert list(temporary.iterdir()) == []


def test_a_model_that_prints_does_not_disturb_the_protocol(connect: Connect, tmp_path: Path) -> None:
    host = HostProcess(config(tmp_path, app="import os\nos.write(1, b'{}\\n' * 9)\nprint('x')\n" + APP))
    try:
        client = connect(host)
        client.call("plan", keys=KEYS, gates=[], stop=None)
        assert client.call("need", keys=KEYS[:1])["records"][KEYS[0]][0] == "passed"
    finally:
        host.stop()


def test_two_clients_share_one_host(connect: Connect, host: HostProcess) -> None:
    one, two = connect(host), connect(host)
    one.call("plan", keys=KEYS, gates=[], stop=None)
    two.call("plan", keys=KEYS[:1], gates=["other"], stop=None)  # the first plan stands
    assert Records(two, KEYS).get(KEYS[2])[0] == "passed"
    assert Records(one, KEYS).get(KEYS[2])[0] == "passed"
    end = two.call("finish")
    assert (end["plan"]["keys"], end["usage"]["m"]["requests"]) == (KEYS, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_message_arrives_as_it_was_sent(message: object) -> None:
    left, right = socket.socketpair()
    with left, right:
        frames.send(left, message)
        assert frames.receive(right) == message

    async def read() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(frames.encode(message))
        reader.feed_eof()
        found = await frames.read_frame(reader)
        assert await frames.read_frame(reader) is None
        return found

    assert asyncio.run(read()) == message


def test_a_long_message_comes_in_pieces() -> None:
    left, right = socket.socketpair()
    message = {"text": "\ud83d\u2028" * 500_000}
    sender = threading.Thread(target=frames.send, args=(left, message))
    with left, right:
        sender.start()
        assert frames.receive(right) == message
        sender.join()


def test_a_message_that_breaks_off_is_the_end() -> None:
    left, right = socket.socketpair()
    with right:
        with left:
            left.sendall(frames.encode({"a": 1})[:-1])
        assert frames.receive(right) is None


def test_where_a_unix_socket_fits() -> None:
    assert frames.unix_sockets_work("/tmp/x")
    assert not frames.unix_sockets_work("/" + "x" * 120)


def test_a_path_too_long_for_a_socket_falls_back_to_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    host = HostProcess(config(tmp_path))
    try:
        assert host.address.startswith("tcp:")
        assert status(host)["done"] == 0
    finally:
        host.stop()
    assert list(deep.iterdir()) == []
