"""The command that labels responses, started as a user does, and what it wrote."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

HOSTILE = '</pre><script>document.title = "owned"</script><img src=x onerror=alert(1)>\u202e {{ 7*7 }} \x00\x1b[2J'


class Page:
    """The command with ``--page``, running."""

    def __init__(self, where: Path, number: int) -> None:
        command = [sys.executable, "-m", "pytest_trustllm.cli", "label", "r.json", "--task", "harm", "--page"]
        self.process = subprocess.Popen(
            [*command, "-n", str(number)],
            cwd=where,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heeds_ctrl_c,
        )
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            found = re.match(r"open (http://127\.0\.0\.1:\d+/[\w-]{40,}/)$", line)
            if found:
                self.address = found[1]
                break
        assert self.address, self.process.stderr and self.process.stderr.read()

    def end(self, *, kill: bool = False) -> tuple[int, str]:
        """Interrupt it, if it runs, and return its status and what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGINT)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait until it ends by itself."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def given(where: Path) -> list[str | None]:
    """Return the labels in the file, in the order in which they were given."""
    path = where / "labels.jsonl"
    return [json.loads(text)["label"] for text in path.read_text().splitlines()]
