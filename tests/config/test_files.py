"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_trustllm.config.files import replacing, write_whole
from pytest_trustllm.errors import ResultsError, SuiteError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_written_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_whole(path, ["one\n", "two \udc80\n"], "-o")
    assert path.read_bytes() == b"one\ntwo \\udc80\n"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("earlier")

    def parts() -> Iterator[str]:
        yield "later"
        raise error

    with pytest.raises(error):
        write_whole(path, parts(), "-o")
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["file.txt"]


def test_the_error_names_flag_and_file_and_is_of_the_class_given(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    path = tmp_path / "taken" / "file.txt"
    with pytest.raises(ResultsError, match=rf"^-o: {path} cannot be written: "):
        write_whole(path, [], "-o")
    with (
        pytest.raises(SuiteError, match=rf"^data fetch: {path} cannot be written: "),
        replacing(path, "data fetch", SuiteError),
    ):
        pytest.fail("there is nothing to write to")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
def test_a_new_file_is_its_owners_alone_unless_it_is_public(tmp_path: Path) -> None:
    earlier = os.umask(0o027)
    try:
        write_whole(tmp_path / "private.txt", [], "-o")
        write_whole(tmp_path / "public.txt", [], "-o", public=True)
        (tmp_path / "shared.txt").touch(0o644)
        (tmp_path / "shared.txt").chmod(0o664)
        write_whole(tmp_path / "shared.txt", ["x"], "-o")
        (tmp_path / "link.txt").symlink_to("shared.txt")
        write_whole(tmp_path / "link.txt", [], "-o")
    finally:
        os.umask(earlier)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"private.txt": 0o600, "public.txt": 0o640, "shared.txt": 0o664, "link.txt": 0o600}


@pytest.mark.skipif(sys.platform != "linux", reason="has pipes in /dev/fd")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    text = "a line that fills more than a pipe holds\n" * 5000
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ResultsError, match=f"^-o: {pipe} cannot be written: No such device or address$"):
        write_whole(pipe, ["nobody reads it"], "-o")
    # open before the writer, which waits for nobody; until the writer is there, the pipe reads as ended
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    received = b""

    def read() -> None:
        nonlocal received
        end = time.monotonic() + 10
        while len(received) < len(text) and time.monotonic() < end:
            received += os.read(reading, 65536)
        os.close(reading)

    thread = threading.Thread(target=read)
    thread.start()
    write_whole(pipe, [text], "-o")
    thread.join(10)
    assert received.decode() == text
    assert stat.S_ISFIFO(pipe.stat().st_mode)

    reading, writing = os.pipe()
    write_whole(Path(f"/dev/fd/{writing}"), ["to a descriptor"], "-o")
    os.close(writing)
    with os.fdopen(reading) as reader:
        assert reader.read() == "to a descriptor"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="makes a device")
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_text("")
    except PermissionError:
        pytest.skip("no devices here")
    link = tmp_path / "link"
    link.symlink_to(device)
    for path in (device, link):
        write_whole(path, ["gone"], "-o")
        assert stat.S_ISCHR(path.stat().st_mode)
