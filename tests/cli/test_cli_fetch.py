"""Getting the data over a real server that behaves in every way servers do."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from local_home import SHARED_ZIP, Home, contents, zipped

from pytest_trustllm import fulldata
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.fulldata import NAME, Published, fetch

Run = Callable[..., SimpleNamespace]
HAND = (
    "download it by hand from .*, check it with 'pytest-trustllm data verify PATH', "
    "and run pytest with --trust-data=PATH"
)


def get(server: Home, where: Path, **more: Any) -> bool:
    return fetch(where, server.url, **{"timeout": 5.0, "pause": 0.0, **more})


def names(where: Path) -> list[str]:
    return sorted(p.name for p in where.iterdir())


def test_the_file_arrives_whole_and_is_not_fetched_twice(server: Home, cache: Path) -> None:
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data
    assert names(cache) == [NAME]
    assert get(server, cache) is False
    assert server.seen == [("/dataset.zip", None)]


def test_a_part_of_an_earlier_try_is_continued(server: Home, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data[:700])
    get(server, cache)
    assert server.seen == [("/dataset.zip", "bytes=700-")]
    assert (cache / NAME).read_bytes() == server.data
    assert names(cache) == [NAME]


def test_a_whole_part_asks_nothing(server: Home, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data)
    get(server, cache)
    assert server.seen == []
    assert (cache / NAME).read_bytes() == server.data


@pytest.mark.parametrize("part", [b"x" * 700, b"x" * 100_000], ids=["shorter", "longer"])
def test_a_part_of_something_else_is_thrown_away(server: Home, cache: Path, part: bytes) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(part)
    get(server, cache)
    assert (cache / NAME).read_bytes() == server.data


def test_a_part_as_long_as_the_file_but_wrong_is_thrown_away(server: Home, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * len(server.data))
    get(server, cache)
    assert (cache / NAME).read_bytes() == server.data


def test_a_server_without_ranges_sends_everything_again(server: Home, cache: Path) -> None:
    server.behave = server.everything
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data[:700])
    get(server, cache)
    assert (cache / NAME).read_bytes() == server.data


def test_a_range_that_the_server_refuses_is_not_asked_again(server: Home, cache: Path) -> None:
    def refuse(to: Any, number: int) -> None:
        if to.headers.get("Range"):
            server.send(to, 416, b"")
        else:
            server.everything(to, number)

    server.behave = refuse
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data[:700])
    get(server, cache)
    assert [asked for _, asked in server.seen] == ["bytes=700-", None]
    assert (cache / NAME).read_bytes() == server.data


def test_a_range_that_begins_earlier_is_laid_in_the_right_place(server: Home, cache: Path) -> None:
    server.behave = lambda to, _: server.send(to, 206, server.data[100:], Content_Range=server.span(100))
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data[:700])
    get(server, cache)
    assert (cache / NAME).read_bytes() == server.data


def test_a_broken_connection_is_taken_up_where_it_broke(server: Home, cache: Path) -> None:
    server.behave = lambda to, n: server.cut(to, n) if n < 3 else server.ranges(to, n)
    get(server, cache)
    assert [asked for _, asked in server.seen] == [None, "bytes=1000-", "bytes=2000-"]
    assert (cache / NAME).read_bytes() == server.data


def test_a_connection_that_breaks_always_leaves_its_part_for_the_next_call(server: Home, cache: Path) -> None:
    server.behave = server.cut
    message = f"the connection ended after 3000 of {len(server.data)} bytes; {HAND} \\(what arrived is kept"
    with pytest.raises(SuiteError, match=message):
        get(server, cache)
    assert names(cache) == [f"{NAME}.part"]
    server.behave = server.ranges
    get(server, cache)
    assert server.seen[-1] == ("/dataset.zip", "bytes=3000-")
    assert names(cache) == [NAME]


def test_a_stalled_server_is_given_up_after_the_timeout(server: Home, cache: Path) -> None:
    def stall(to: Any, number: int) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(server.data)))
        to.end_headers()
        to.wfile.write(server.data[:300])
        to.wfile.flush()
        server.release.wait(20)

    server.behave = stall
    with pytest.raises(SuiteError, match=r"no byte for 0\.2 s"):
        get(server, cache, timeout=0.2)
    assert (cache / f"{NAME}.part").read_bytes() == server.data[:300]


def test_a_busy_server_is_asked_again(server: Home, cache: Path) -> None:
    server.behave = lambda to, n: server.send(to, 503, b"busy") if n < 3 else server.ranges(to, n)
    get(server, cache)
    assert (cache / NAME).read_bytes() == server.data


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda s: lambda to, _: s.send(to, 404, b"gone"), "HTTP 404 Not Found"),
        (lambda s: lambda to, _: s.send(to, 403, b"no"), "HTTP 403 Forbidden"),
        (lambda s: lambda to, _: s.send(to, 500, b"broken"), "HTTP 500"),
        (
            lambda s: lambda to, _: s.send(to, 200, b"<html>hello</html>"),
            "the file there has 18 bytes, the published one",
        ),
        (lambda s: lambda to, _: s.send(to, 200, b"x" * len(s.data)), "these are other bytes .* nothing was kept"),
        (
            lambda s: lambda to, _: s.send(to, 200, s.data + b"more", Content_Length=""),
            "more than the .* bytes of the published file",
        ),
        (lambda s: lambda to, _: to.wfile.write(b"SSH-2.0-nothing\r\n\r\n"), "BadStatusLine"),
        (lambda s: lambda to, _: None, "RemoteDisconnected"),
    ],
    ids=["404", "403", "500", "another size", "other bytes", "without end", "no HTTP", "hangs up"],
)
def test_what_is_not_the_file_never_takes_its_place(
    server: Home, cache: Path, behave: Callable[[Home], Any], message: str
) -> None:
    server.behave = behave(server)
    with pytest.raises(SuiteError, match=f"{message}.*; {HAND}") as e:
        get(server, cache)
    assert "\n" not in str(e.value)
    assert names(cache) == []


def test_another_part_than_asked_for_is_refused(server: Home, cache: Path) -> None:
    server.behave = lambda to, _: server.send(to, 206, server.data[900:], Content_Range=server.span(900))
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(server.data[:700])
    with pytest.raises(SuiteError, match="another part of the file"):
        get(server, cache)


def test_without_network_one_line_says_what_to_do(run: Run, published: Published) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    found = run("data", "fetch", "--url", f"http://127.0.0.1:{port}/dataset.zip?token=s3cret")
    assert found.status == 1
    assert found.err.count("\n") == 1
    assert re.search(f"no connection: Connection refused; {HAND}", found.err)
    assert "s3cret" not in found.err


def test_the_proxy_of_the_environment_is_used(
    server: Home, cache: Path, monkeypatch: pytest.MonkeyPatch, published: Published
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    fetch(cache, "http://data.invalid/dataset.zip", timeout=5.0, pause=0.0)
    assert server.seen == [("http://data.invalid/dataset.zip", None)]
    assert (cache / NAME).read_bytes() == server.data


def test_two_processes_do_not_tread_on_each_other(server: Home, cache: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            get(server, cache)
        except SuiteError as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert (cache / NAME).read_bytes() == server.data
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "begins with http:// or https://"),
        ("dataset.zip", "begins with http:// or https://"),
        ("ftp://example.org/x", "begins with http:// or https://"),
        ("http://me:s3cret@example.org/x", "holds a name or password"),
        ("http://example.org:port/x", "--url: Port could not be cast"),
        ("http://example.org/a b", "write blanks"),
        ("http://example.org/\r\nHost: x", "write blanks|begins with"),
        ("http://[::1/x", "Invalid IPv6"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_made(
    run: Run, cache: Path, url: str, message: str
) -> None:
    found = run("data", "fetch", "--url", url)
    assert found.status == 1
    assert re.search(message, found.err)
    assert found.err.count("\n") == 1
    assert "s3cret" not in found.err
    assert not cache.exists()


def test_a_file_of_the_users_is_not_overwritten(server: Home, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("mine")
    with pytest.raises(SuiteError, match="exists and is another file; move it away or give another --to"):
        get(server, tmp_path)
    assert (tmp_path / NAME).read_text() == "mine"


def test_a_spoilt_file_in_the_cache_is_replaced(server: Home, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_text("spoilt")
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data


def test_a_place_that_cannot_be_written_is_named(server: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match=r"file.*cannot be written"):
        get(server, tmp_path / "file")


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a\\..\\..\\evil.json", "C:/evil.json"])
def test_an_archive_that_would_write_elsewhere_is_refused(
    server: Home, cache: Path, monkeypatch: pytest.MonkeyPatch, published: Published, name: str
) -> None:
    server.data = zipped({**contents(), name: b"[]"})
    sha256 = hashlib.sha256(server.data).hexdigest()
    monkeypatch.setattr(fulldata, "published", lambda: replace(published, size=len(server.data), sha256=sha256))
    with pytest.raises(SuiteError, match="the path leads out of the archive"):
        get(server, cache)
    assert not (cache / NAME).exists()


def test_the_command_says_where_what_and_under_which_licence(run: Run, server: Home, cache: Path) -> None:
    found = run("data", "fetch", "--url", server.url)
    assert found.status == 0
    assert found.err == ""
    assert f"fetched: {cache / NAME}" in found.out
    assert "use it with --trust-data=full" in found.out
    assert fulldata.published().commit in found.out
    for data_set in fulldata.published().sets:
        assert re.search(f"^{re.escape(data_set.name)} +{data_set.origin} +upstream states no licence", found.out, re.M)
    assert max(map(len, found.out.splitlines())) <= 100 + len(str(cache))
    assert "already there" in run("data", "fetch", "--url", server.url).out


def test_another_directory_is_used_with_its_path(run: Run, server: Home, tmp_path: Path) -> None:
    found = run("data", "fetch", "--url", server.url, "--to", tmp_path / "here")
    assert f"use it with --trust-data={tmp_path / 'here' / NAME}" in found.out
    assert run("data", "path").status == 1


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_that_is_none_is_a_usage_error(run: Run, timeout: str) -> None:
    found = run("data", "fetch", f"--timeout={timeout}")
    assert found.status == 4
    assert "expected a time in seconds above 0" in found.err


@pytest.mark.skipif(not SHARED_ZIP.is_file(), reason="the real data set is not on this machine")
def test_the_real_command_fetches_the_real_file(cache: Path) -> None:
    home = Home(SHARED_ZIP.read_bytes())
    try:
        command = [sys.executable, "-m", "pytest_trustllm.cli", "data"]
        found = subprocess.run([*command, "fetch", "--url", home.url], capture_output=True, text=True, check=False)
        assert (found.returncode, found.stderr) == (0, "")
        path = subprocess.run([*command, "path"], capture_output=True, text=True, check=False)
        assert path.stdout == f"{cache / NAME}{os.linesep}"
        verify = subprocess.run([*command, "verify"], capture_output=True, text=True, check=False)
        assert "24 of 24 files as published (16441 of 16441 rows); the very zip that was published" in verify.stdout
        assert verify.returncode == 0
    finally:
        home.stop()
