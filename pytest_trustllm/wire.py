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
"""Bytes of the first frame, which comes from anybody; it holds a token."""
_UNIX_PATH_LIMIT = 100


def encode(message: Any) -> bytes:
    """Return the frame of one message."""
    payload = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    return LENGTH.pack(len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader, limit: int = MAX_FRAME) -> Any:
    """Return the next message, or None at the end of the stream: what is longer or no JSON ends it too."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return json.loads(await reader.readexactly(length)) if length <= limit else None
    except (asyncio.IncompleteReadError, ConnectionError, ValueError, RecursionError):
        return None


def read_pipe(stream: IO[bytes]) -> Any:
    """Return the next message of a pipe, or None at its end."""
    head = stream.read(LENGTH.size)
    size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else MAX_FRAME + 1
    body = stream.read(size) if size <= MAX_FRAME else b""
    return json.loads(body) if len(body) == size else None


def connect(address: str) -> socket.socket:
    """Return a connected socket.

    Raises:
        OSError: Nobody listens there.
    """
    kind, _, where = address.partition(":")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(where)
        except OSError:
            sock.close()
            raise
        return sock
    return socket.create_connection(("127.0.0.1", int(where)))


def send(sock: socket.socket, message: Any) -> None:
    """Send one message."""
    sock.sendall(encode(message))


def receive(sock: socket.socket) -> Any:
    """Return the next message, or None at the end of the stream."""
    head = _exactly(sock, LENGTH.size)
    body = _exactly(sock, LENGTH.unpack(head)[0]) if head is not None else None
    return None if body is None else json.loads(body)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def unix_sockets_work(directory: str) -> bool:
    """Return whether a Unix socket can lie in ``directory`` (no Windows, no long path)."""
    return hasattr(socket, "AF_UNIX") and len(directory) < _UNIX_PATH_LIMIT - len("/host")
