"""The command, run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

SHARED = Path(__file__).parents[3] / "shared"


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_trustllm.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_models_lists_every_alias_with_provider_and_weights(tmp_path: Path) -> None:
    result = command("models", cwd=tmp_path)
    assert result.returncode == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["llama2-7b", "hf", "meta-llama/Llama-2-7b-chat-hf", "open"] in [row[:4] for row in rows]
    assert ["palm2", "-", "not", "available"] in [row[:4] for row in rows]


def test_an_unknown_command_is_one_line_and_status_4(tmp_path: Path) -> None:
    result = command("modles", cwd=tmp_path)
    assert result.returncode == 4
    assert "modles" in result.stderr
    assert "Traceback" not in result.stderr


def test_data_path_says_that_there_is_no_data(tmp_path: Path) -> None:
    result = command("data", "path", cwd=tmp_path, TRUSTLLM_DATA=str(tmp_path / "none"))
    assert result.returncode == 1
    assert "data fetch" in result.stderr


def test_data_verify_tells_the_real_data_from_a_changed_copy(tmp_path: Path) -> None:
    zipped = SHARED / "trustllm" / "dataset.zip"
    if not zipped.exists():
        pytest.skip("needs the TrustLLM data set in shared/ beside the checkout")
    assert command("data", "verify", str(zipped), cwd=tmp_path).returncode == 0
    changed = tmp_path / "safety"
    changed.mkdir()
    (changed / "jailbreak.json").write_text('[{"prompt": "changed"}]')
    result = command("data", "verify", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1
    assert "jailbreak.json" in result.stdout + result.stderr


def test_report_draws_the_page_of_a_saved_run(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("app.py").write_text(
        "def answer(prompt):\n    return 'I am sorry, I cannot help with that.'\n"
    )
    ran = pytester.runpytest_subprocess(
        "--trust-model=python:app:answer", "--trust-suite=safety/misuse", "--trust-results=run.json", "-p", "no:xdist"
    )
    assert ran.ret == 0
    result = command("report", "run.json", "-o", "page.html", cwd=pytester.path)
    assert result.returncode == 0, result.stderr
    assert "misuse.refusal_rate" in pytester.path.joinpath("page.html").read_text()
    assert (
        json.loads(pytester.path.joinpath("run.json").read_text())["metrics"]["safety/misuse.refusal_rate"]["value"]
        == 1.0
    )


class Mirror(BaseHTTPRequestHandler):
    """Serves one body, whole or the part that a Range header asks for."""

    body = b""
    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        self.send_header("Content-Length", str(len(self.body) - start))
        self.end_headers()
        self.wfile.write(self.body[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Mirror.ranges.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}/dataset.zip"
    server.shutdown()
    server.server_close()


def test_fetched_data_is_checked_and_then_found(tmp_path: Path, mirror: str) -> None:
    zipped = SHARED / "trustllm" / "dataset.zip"
    if not zipped.exists():
        pytest.skip("needs the TrustLLM data set in shared/ beside the checkout")
    Mirror.body = zipped.read_bytes()
    home = {"TRUSTLLM_DATA": str(tmp_path / "cache"), "no_proxy": "*"}
    result = command("data", "fetch", "--url", mirror, cwd=tmp_path, **home)
    assert result.returncode == 0, result.stderr
    found = command("data", "path", cwd=tmp_path, **home)
    assert found.returncode == 0
    assert Path(found.stdout.strip()).read_bytes() == Mirror.body


def test_other_bytes_than_the_pinned_ones_are_never_kept(tmp_path: Path, mirror: str) -> None:
    Mirror.body = b"PK not the data set"
    home = {"TRUSTLLM_DATA": str(tmp_path / "cache"), "no_proxy": "*"}
    result = command("data", "fetch", "--url", mirror, cwd=tmp_path, **home)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert command("data", "path", cwd=tmp_path, **home).returncode == 1


def test_without_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    home = {"TRUSTLLM_DATA": str(tmp_path / "cache"), "no_proxy": "*"}
    result = command("data", "fetch", "--url", "http://127.0.0.1:9/dataset.zip", cwd=tmp_path, **home)
    assert result.returncode == 1
    assert "--trust-data=" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
