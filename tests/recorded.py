"""The recorded responses beside the repository: where they lie, the numbers they must give, and their server.

Nothing of it is part of the repository; tests that need it carry the mark ``needs_recorded`` and skip without it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from moved import MOVED

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
ORACLE = SHARED / "oracle"
RESPONSES = ORACLE / "responses.zip"
CLASSIFIER = ORACLE / "refusal-classifier"
DATA = SHARED / "trustllm" / "dataset.zip"
SERVER = ORACLE / "fake_server.py"
TOLERANCE = 1e-9
EXPECTED: dict[str, Any] = json.loads((ORACLE / "expected.json").read_text()) if ORACLE.is_dir() else {}
_IDS: dict[str, Any] = json.loads((ORACLE / "metric_ids.json").read_text()) if ORACLE.is_dir() else {}
OPTIONAL = [key for key in EXPECTED if _IDS[key].get("optional")]
KEYS = [key for key in EXPECTED if key not in OPTIONAL]

needs_recorded = pytest.mark.skipif(
    not EXPECTED, reason=f"needs the recorded responses in {SHARED}, beside the repository"
)

Read = Callable[[str, str], float | None]
"""Metric id and reading (``value`` or ``parity``) to a number."""


def check(key: str, read: Read) -> None:
    """Hold one number of the recording, or what our rule makes of it, against a run's, in both readings."""
    id_, reading = _place(key)
    upstream = EXPECTED[key]["upstream"]
    expected = MOVED[key][0] if key in MOVED else EXPECTED[key]["expected"]
    assert read(id_, reading) == pytest.approx(expected, abs=TOLERANCE, rel=0)
    if upstream is not None:
        upstream = 1 - upstream if _IDS[key].get("parity") == "1 - upstream" else upstream
        assert read(id_, "parity") == pytest.approx(upstream, abs=TOLERANCE, rel=0)


def _place(key: str) -> tuple[str, str]:
    """Return the metric id of an upstream key, and which of its readings is the number."""
    read = _IDS[key].get("read")
    if read is None:
        return _IDS[key]["id"], "value"
    found = re.fullmatch(r'metrics\["(.+)"\]\["(\w+)"\]', read)
    assert found is not None
    return found[1], found[2]


def server_module() -> ModuleType:
    """Return the recorded server's module, for its answers without a socket."""
    spec = importlib.util.spec_from_file_location("recorded_server", SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving() -> Iterator[str]:
    """Run the recorded server as a process of its own and yield its address."""
    with subprocess.Popen([sys.executable, str(SERVER), "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def stats(url: str) -> Mapping[str, Any]:
    """Return what the server was asked so far."""
    with urllib.request.urlopen(f"{url}/stats", timeout=20) as reply:
        found: Mapping[str, Any] = json.load(reply)
    return found


def environment(url: str) -> dict[str, str]:
    """Return the variables that lead every remote role to the server."""
    return {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "any",
        "PERSPECTIVE_BASE_URL": url,
        "PERSPECTIVE_API_KEY": "any",
    }
