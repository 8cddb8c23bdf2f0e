"""A Ray cluster for a test, each of whose nodes can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "ray_cluster.py"


class RayCluster:
    """A cluster of its own process."""

    def __init__(self, *sizes: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_raylet_start_wait_time_s": "180"},
            cwd="/",  # its processes are not the project's
        )
        self.address = self._confirmed("address").split()[1]

    def _confirmed(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line
        raise AssertionError("the cluster ended")

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._confirmed("done")

    def close(self) -> None:
        self._process.communicate(timeout=60)
