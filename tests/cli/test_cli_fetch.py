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

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites import downloads, full_data
from pytest_trustllm.suites.full_data import NAME, PublishedData, fetch

Run = Callable[..., SimpleNamespace]
HAND = (
    "try again, or download it by hand from .*, check it with 'pytest-trustllm data verify PATH', "
    "and run pytest with --trust-data=PATH"
)


def get(server: Home, where: Path, **more: Any) -> bool:
    return fetch(where, server.url, **{"timeout": 5.0, **more})


def names(where: Path) -> list[str]:
    return sorted(p.name for p in where.iterdir())


def test_the_file_arrives_whole_and_is_not_fetched_twice(server: Home, cache: Path) -> None:
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data
    assert names(cache) == [NAME]
    assert get(server, cache) is False
    assert server.seen == ["/dataset.zip"]


def test_a_download_that_breaks_off_is_continued_at_once(server: Home, cache: Path) -> None:
    server.behave = server.in_pieces
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data
    assert names(cache) == [NAME]
    assert len(server.seen) == -(-len(server.data) // 1000)


def test_what_arrived_is_kept_for_the_next_call(server: Home, cache: Path) -> None:
    server.behave = server.cut
    with pytest.raises(SuiteError, match=f"the connection ended after 1000 of {len(server.data)} bytes; {HAND}"):
        get(server, cache)
    assert names(cache) == [f"{NAME}.part"]
    assert (cache / f"{NAME}.part").read_bytes() == server.data[:1000]
    server.behave = server.in_pieces
    server.seen.clear()
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data
    assert names(cache) == [NAME]
    assert len(server.seen) == -(-len(server.data) // 1000) - 1


def test_a_server_without_ranges_begins_anew(server: Home, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{NAME}.part").write_bytes(b"something else")
    assert get(server, cache) is True
    assert (cache / NAME).read_bytes() == server.data


def test_a_part_of_another_file_costs_one_failure(server: Home, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{NAME}.part").write_bytes(b"x" * 1000)
    server.behave = server.in_pieces
    with pytest.raises(SuiteError, match="the bytes differ from the published file"):
        get(server, cache)
    assert get(server, cache) is True


def test_a_range_that_lies_is_not_believed(server: Home, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{NAME}.part").write_bytes(server.data[:1000])
    server.behave = lambda to, _: server.send(to, 206, server.data, Content_Range=f"bytes 0-{len(server.data) - 1}/*")
    with pytest.raises(SuiteError, match="the server sent another part of the file than was asked for"):
        get(server, cache)
    assert names(cache) == []


def test_a_link_in_the_place_of_the_part_is_not_followed(server: Home, cache: Path, tmp_path: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    private = tmp_path / "private"
    private.write_bytes(b"private")
    (cache / f"{NAME}.part").symlink_to(private)
    server.behave = server.cut
    with pytest.raises(SuiteError, match="the connection ended"):
        get(server, cache)
    assert private.read_bytes() == b"private"
    assert not (cache / f"{NAME}.part").is_symlink()


def test_a_busy_server_is_asked_again(server: Home, cache: Path) -> None:
    server.behave = lambda to, number: server.send(to, 503, b"") if number < 3 else server.whole(to, number)
    assert get(server, cache) is True
    assert len(server.seen) == 3


def test_byte_by_byte_is_too_slow(server: Home, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PATIENCE", 0.5)

    def drip(to: Any, number: int) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(server.data)))
        to.end_headers()
        for byte in server.data[:100]:
            to.wfile.write(bytes([byte]))
            if server.release.wait(0.02):
                return

    server.behave = drip
    with pytest.raises(SuiteError, match=r"\d+ bytes in \d s; expected 10 kB per second"):
        get(server, cache)


def test_a_stalled_server_is_given_up_after_the_timeout(server: Home, cache: Path) -> None:
    def stall(to: Any, number: int) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(server.data)))
        to.end_headers()
        to.wfile.write(server.data[:300])
        to.wfile.flush()
        server.release.wait(20)

    server.behave = stall
    with pytest.raises(SuiteError, match=r"no byte for 1 s"):
        get(server, cache, timeout=1.0)
    assert names(cache) == [f"{NAME}.part"]


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
        (lambda s: lambda to, _: s.send(to, 200, b"x" * len(s.data)), "the bytes differ from the published file .*"),
        (
            lambda s: lambda to, _: s.send(to, 200, s.data + b"more", Content_Length=""),
            r"more than \d+ bytes",
        ),
        (lambda s: lambda to, _: s.send(to, 302, b"", Location=f"http://{'a' * 64}.invalid/x"), "Unicode.*Error: "),
        (lambda s: lambda to, _: to.wfile.write(b"SSH-2.0-nothing\r\n\r\n"), "BadStatusLine"),
        (lambda s: lambda to, _: None, "RemoteDisconnected"),
    ],
    ids=[
        "404",
        "403",
        "500",
        "another size",
        "other bytes",
        "without end",
        "redirects to no host",
        "no HTTP",
        "hangs up",
    ],
)
def test_what_is_not_the_file_never_takes_its_place(
    server: Home, cache: Path, behave: Callable[[Home], Any], message: str
) -> None:
    server.behave = behave(server)
    with pytest.raises(SuiteError, match=f"{message}.*; {HAND}") as e:
        get(server, cache)
    assert "\n" not in str(e.value)
    assert names(cache) == []


def test_without_network_one_line_says_what_to_do(run: Run, published: PublishedData) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    found = run("data", "fetch", "--url", f"http://127.0.0.1:{port}/dataset.zip?token=s3cret")
    assert found.status == 1
    assert found.err.count("\n") == 1
    assert re.search(f"no connection: Connection refused; {HAND}", found.err)
    assert "s3cret" not in found.err


def test_the_proxy_of_the_environment_is_used(
    server: Home, cache: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedData
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    fetch(cache, "http://data.invalid/dataset.zip", timeout=5.0)
    assert server.seen == ["http://data.invalid/dataset.zip"]
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
    assert names(cache) == [NAME]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "begins with http:// or https://"),
        ("dataset.zip", "begins with http:// or https://"),
        ("ftp://example.org/x", "begins with http:// or https://"),
        ("http://me:s3cret@example.org/x", "contains a name or password"),
        ("http://example.org:port/x", "--url: Port could not be cast"),
        ("http://example.org/a b", "write spaces"),
        ("http://example.org/\r\nHost: x", "write spaces|begins with"),
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
    with pytest.raises(SuiteError, match="exists and is another file; move it away or choose another --to"):
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
    server: Home, cache: Path, monkeypatch: pytest.MonkeyPatch, published: PublishedData, name: str
) -> None:
    server.data = zipped({**contents(), name: b"[]"})
    sha256 = hashlib.sha256(server.data).hexdigest()
    monkeypatch.setattr(full_data, "published_data", lambda: replace(published, size=len(server.data), sha256=sha256))
    with pytest.raises(SuiteError, match="the path leads out of the archive"):
        get(server, cache)
    assert not (cache / NAME).exists()


def test_the_command_says_where_what_and_under_which_licence(run: Run, server: Home, cache: Path) -> None:
    found = run("data", "fetch", "--url", server.url)
    assert found.status == 0
    assert found.err == ""
    assert f"fetched: {cache / NAME}" in found.out
    assert "use it with --trust-data=full" in found.out
    assert full_data.published_data().commit in found.out
    for data_set in full_data.published_data().sets:
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


def test_a_name_that_no_file_can_have_is_one_line(run: Callable[..., SimpleNamespace]) -> None:
    for arguments in (["fetch", "é" * 300], ["verify", "é" * 300]):
        found = run("data", *arguments)
        assert (found.status != 0, found.out) == (True, "")
        assert found.err.startswith("ERROR: ")
        assert found.err.count("\n") == 1
