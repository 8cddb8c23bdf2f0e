"""Frames between the test processes and the model host: four bytes of length, then JSON in ASCII."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import IO, Any

LENGTH = struct.Struct(">I")
MAX_FRAME = 1 << 30
MAX_HELLO = 1 << 12
"""Bytes of the first frame, which holds a token and may come from any process of the machine."""
_UNIX_PATH_LIMIT = 103
"""Characters of a Unix socket's path, below the 104 of macOS and the 108 of Linux."""
_CHUNK = 1 << 20
# Plugins that keep tests off the network (pytest-socket), and tests that mock the network, replace these while a test
# runs; the connection to our own host must keep working.
_SOCKET = socket.socket
_CONNECT = socket.socket.connect


def encode(message: Any) -> bytes:
    """Return the frame of one message."""
    payload = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    return LENGTH.pack(len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader, limit: int = MAX_FRAME) -> Any:
    """Return the next message; None at the end of the stream, and for a frame that is too long or not JSON."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > limit:
            return None
        return json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError, ValueError, RecursionError):
        return None


def read_pipe(stream: IO[bytes]) -> Any:
    """Return the next message of a pipe, or None at its end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MAX_FRAME:
        return None
    body = stream.read(length)
    if len(body) < length:
        return None
    return json.loads(body)


def connect(address: str) -> socket.socket:
    """Return a connected socket.

    Args:
        address: ``unix:<path>``, or ``tcp:<port>`` on this machine.

    Raises:
        OSError: Nobody listens there.
    """
    family, _, location = address.partition(":")
    is_unix = family == "unix"
    sock = _SOCKET(socket.AF_UNIX if is_unix else socket.AF_INET)
    try:
        _CONNECT(sock, location if is_unix else ("127.0.0.1", int(location)))
    except BaseException:
        sock.close()
        raise
    return sock


def send(sock: socket.socket, message: Any) -> None:
    """Send one message."""
    sock.sendall(encode(message))


def receive(sock: socket.socket) -> Any:
    """Return the next message, or None at the end of the stream."""
    head = _receive_exactly(sock, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    body = _receive_exactly(sock, length)
    if body is None:
        return None
    return json.loads(body)


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    chunks = []
    while size:
        chunk = sock.recv(min(size, _CHUNK))
        if not chunk:
            return None
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def unix_sockets_work(directory: str) -> bool:
    """Return whether a Unix socket can be created in ``directory``: not on Windows, and not under a long path."""
    return hasattr(socket, "AF_UNIX") and len(directory) < _UNIX_PATH_LIMIT - len("/host-stuck")
