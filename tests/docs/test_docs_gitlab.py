"""The GitLab recipe of docs/ci.md that updates a note, run against a server with several pages of notes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"
MARKER = "<!-- pytest-trustllm comment: trust -->"
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("curl") is None, reason="needs a POSIX shell and curl"
)


def recipe() -> str:
    """Return the commands after those that install the package and write the comment."""
    (block,) = [
        block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "trust-note:" in block
    ]
    script: list[str] = yaml.safe_load(block)["trust-note"]["script"]
    return "\n".join(step for step in script if not step.startswith(("pip ", "pytest-trustllm ")))


@contextmanager
def gitlab(notes: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of the notes of a merge request, and what was requested of it."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            size, page = int(query["per_page"][0]), int(query.get("page", ["1"])[0])
            requested.append(f"GET page {page}")
            part = notes[(page - 1) * size : page * size]
            self.answer(part, str(page + 1) if page * size < len(notes) else "")

        def do_PUT(self) -> None:
            self.write()

        def do_POST(self) -> None:
            self.write()

        def write(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requested.append(f"{self.command} {self.path} {'comment' if 'new text' in body else body}")
            self.answer({}, "")

        def answer(self, content: object, next_page: str) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Next-Page", next_page)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/notes", requested
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def note(number: int, body: str = "hello", user: str = "ada") -> dict[str, Any]:
    return {"id": number, "body": body, "author": {"username": user}}


OWN = note(777, f"{MARKER}\nold text", "project_42_bot_1a2b")
FORGED = note(5, f"{MARKER}\nnot ours")
OTHERS = [note(number) for number in range(100, 330)]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([OWN, *OTHERS], ["GET page 1", "PUT /notes/777 comment"]),
        ([FORGED, *OTHERS, OWN], ["GET page 1", "GET page 2", "GET page 3", "PUT /notes/777 comment"]),
        (OTHERS, ["GET page 1", "GET page 2", "GET page 3", "POST /notes comment"]),
        ([], ["GET page 1", "POST /notes comment"]),
    ],
    ids=["first page", "last page", "not there", "no notes"],
)
def test_the_note_is_found_on_any_page(tmp_path: Path, notes: list[dict[str, Any]], expected: list[str]) -> None:
    (tmp_path / "comment.md").write_text(f"{MARKER}\nnew text")
    with gitlab(notes) as (address, requested):
        done = subprocess.run(
            ["sh", "-e", "-c", recipe()],
            cwd=tmp_path,
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TRUST_TOKEN": "t", "NOTES": address,
                "CI_PROJECT_ID": "42", "no_proxy": "*",
            },
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert requested == expected
