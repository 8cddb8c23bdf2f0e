"""The directory of a run's model host: who owns it, and what becomes of those that nobody owns any more.

Whoever uses a directory holds a lock on a file in it, which the operating system gives up when the last such process is
gone, however it ended. The host removes its directory when the run ends. A directory that is left all the same, since
everything was killed at once, is removed by the next run.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path

from pytest_trustllm.engine.messages import STUCK, HostConfig, RunConfig

try:
    import fcntl
except ImportError:  # Windows: what is left there is left
    fcntl = None  # type: ignore[assignment]

_PREFIX = "trustllm-host-"
_LOCK = "owner"
_FILES = ("transcript", "host", f"host{STUCK}", "host.log")
"""What else a directory has; see :mod:`.client` and :mod:`.host_process`."""
_SECONDS_TO_LOCK = 60.0
"""Age from which a directory without a lock has no owner: a run locks its directory at once."""


class HostHome:
    """What every host of a run has, whether it is a process or a thread.

    Attributes:
        token: Clients show it.
        directory: Of mode 700, for the socket and the transcript; removed when the host ends.
        transcript: File for the texts of samples.
        lock: Descriptor that shows that the directory has an owner, to be inherited by the host; None: there are no
            locks on this system.
    """

    def __init__(self) -> None:
        remove_ownerless(Path(tempfile.gettempdir()))
        self.token = secrets.token_hex(16)
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.transcript = self.directory / "transcript"
        self.lock: int | None = None
        if fcntl is not None:
            try:
                self.lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self.lock, fcntl.LOCK_EX)
            except BaseException:  # no descriptors, no room, or Ctrl-C
                self.remove()
                raise

    def host_config(self, config: RunConfig) -> HostConfig:
        """Return the run's configuration with what concerns this host."""
        return {
            **config,
            "token": self.token,
            "directory": str(self.directory),
            "transcript": str(self.transcript),
        }

    def remove(self) -> None:
        """Remove the directory; a host that was killed could not."""
        if self.lock is not None:
            os.close(self.lock)  # first: a process that has no more descriptors needs this one to remove anything
            self.lock = None
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():  # it could not even be listed
            for name in (*_FILES, _LOCK):
                with contextlib.suppress(OSError):
                    (self.directory / name).unlink()
            with contextlib.suppress(OSError):
                self.directory.rmdir()


def remove_ownerless(where: Path) -> None:
    """Remove the directories of runs of this user of which no process is left."""
    with contextlib.suppress(OSError):
        for path in where.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if fcntl is not None and _is_ownerless(path):
                    shutil.rmtree(path, ignore_errors=True)


def _is_ownerless(path: Path) -> bool:
    about = path.lstat()
    # Others may put anything into a directory that everybody can write to
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        return False
    # Somebody else's directory may begin with the same word
    if not {entry.name for entry in path.iterdir()} <= {*_FILES, _LOCK}:
        return False
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - about.st_mtime > _SECONDS_TO_LOCK
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
