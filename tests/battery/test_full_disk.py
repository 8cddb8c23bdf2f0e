"""A disk that is full, at whatever is written: one line says which file, no half a file stays, and nothing is lost.

The disk is a real one, of memory; mounting it needs the rights of root.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import FaultServer
from user_project import Project, wait_for

SLOW = pytest.mark.slow
COUNT = 30
WRITES = {
    "store": ["--trust-store={disk}/store"],
    "results": ["--trust-results={disk}/r.json", "--trust-store=store"],
    "report": ["--trust-report={disk}/r.html", "--trust-store=store"],
    "history": ["--trust-history={disk}/history", "--trust-store=store"],
}
"""What is written -> the options that send it to the full disk."""


class Disk:
    """A small file system in memory.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("tmpfs", "-t", "tmpfs", "-o", "size=4k")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(self.path)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")

    def resize(self, kilobytes: int) -> None:
        self._mount("-o", f"remount,size={kilobytes}k")

    def remove(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        found = Disk(tmp_path / "disk")
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    yield found
    found.remove()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    made = FaultServer()
    yield made
    made.close()


@pytest.fixture
def written(project: Project, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose model is an API, because its answers are stored."""
    project.samples(COUNT)
    project.gates("metric: many.accuracy, at_least: 0.5")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return project


def run(project: Project, *args: str) -> pytest.RunResult:
    return project.run(*args, model="openai:m")


def check_said(project: Project, result: pytest.RunResult, what: str) -> None:
    """Check that a run which could not write ended as it should."""
    text = result.stdout.str() + result.stderr.str()
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED), text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert "No space left on device" in text
    assert f"--trust-{what}" in text
    assert wait_for(lambda: not project.processes(), 20)


def check_whole(directory: Path) -> None:
    """Check that no half a file, and no temporary one, is left."""
    for path in directory.rglob("*"):
        assert not path.name.startswith((".r.", ".t.")), path
        if path.suffix == ".json" and path.is_file():
            json.loads(path.read_text())


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=SLOW)])
@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk(written: Project, server: FaultServer, disk: Disk, what: str, workers: str) -> None:
    options = [option.format(disk=disk.path) for option in WRITES[what]]
    check_said(written, run(written, *options, "-n", workers), what)
    check_whole(disk.path)
    stored = sum(file.read_text().count('"key"') for file in written.path.glob("**/store/*.jsonl"))

    disk.resize(4096)
    before = len(server.answered)
    result = run(written, *options, "-n", workers)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert len(server.answered) - before == COUNT - stored  # what was stored is not asked again
    assert stored == COUNT or what == "store"


@pytest.mark.slow
def test_a_full_disk_for_temporary_files(written: Project, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk.path / "filler").write_bytes(b"x" * 4096)
    monkeypatch.setenv("TMPDIR", str(disk.path))
    result = run(written, "--basetemp", str(written.path / "base"))
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert wait_for(lambda: not written.processes(), 20)
    assert [path.name for path in disk.path.iterdir()] == ["filler"]
