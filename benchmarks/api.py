"""API throughput: the engine's openai path against a bare asyncio client, at the same concurrency, interleaved.

    python benchmarks/api.py [--requests 2000] [--rounds 3] [--concurrency 16 64]

A row is a number of calls in flight; the table has medians of requests per second, and the ratio of each round's pair.
The second table compares two servers (``base_urls``) with one; each answers 32 requests at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import openai

from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.engine.host_process import collect_garbage_seldom
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.models.api.openai import PROVIDER
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.types import Request

LATENCY = 0.05
AT_A_TIME = 32
"""Requests that each server of the second table answers at a time."""
WARM_UP = 500
"""Requests before the clock starts: both sides open their connections, the engine finds its pace."""


@contextmanager
def server(at_a_time: int = 10_000) -> Iterator[int]:
    """Run the loopback server and yield its port."""
    command = [sys.executable, str(Path(__file__).with_name("loopback.py")), str(LATENCY), str(at_a_time)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def prompt(number: int) -> str:
    """Return a prompt of usual length, unlike all others."""
    return f"Question {number}: " + "why would anybody ask for such a thing, and what would you reply? " * 3


class Bare:
    """Connections of asyncio's own and HTTP written by hand: what Python can do at best."""

    name = "bare asyncio"

    def __init__(self, port: int, concurrency: int) -> None:
        self._port, self._concurrency = port, concurrency

    async def open(self) -> None:
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        for _ in range(self._concurrency):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def ask(self, text: str) -> str:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 64}).encode()
        reader, writer = await self._free.get()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        found = json.loads(await reader.readexactly(length))
        self._free.put_nowait((reader, writer))
        answer: str = found["choices"][0]["message"]["content"]
        return answer

    async def close(self) -> None:
        while not self._free.empty():
            self._free.get_nowait()[1].close()


class Ours:
    """The engine with store and pace, as the model host runs it."""

    name = "engine, openai:"

    def __init__(self, port: int, concurrency: int, *more_ports: int) -> None:
        urls = [f"http://127.0.0.1:{port}/v1" for port in (port, *more_ports)]
        self._spec = ModelSpec("openai:m", "openai", "m", options={"base_urls": urls, "max_concurrency": concurrency})

    async def open(self) -> None:
        model = PROVIDER.load(self._spec, LoadSettings())
        self._directory = tempfile.TemporaryDirectory()
        self._engine = Engine(model, Shelf(Path(self._directory.name), model.info))

    async def ask(self, text: str) -> str | None:
        return (await self._engine.ask(Request((("user", text),)))).text

    async def close(self) -> None:
        await self._engine.close()
        self._directory.cleanup()


async def speed(client: Bare | Ours, requests: int) -> tuple[float, float]:
    """Return requests per second, and CPU milliseconds of the client per request."""
    await client.open()
    await asyncio.gather(*(client.ask(prompt(-i)) for i in range(1, WARM_UP + 1)))
    start, used = time.perf_counter(), time.process_time()
    answers = await asyncio.gather(*(client.ask(prompt(i)) for i in range(requests)))
    seconds, used = time.perf_counter() - start, time.process_time() - used
    await client.close()
    assert answers == ["I cannot help."] * requests
    return requests / seconds, 1000 * used / requests


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 64])
    given = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "any"
    collect_garbage_seldom()  # as the model host does
    versions = f"Python {platform.python_version()}, openai {openai.__version__}, aiohttp {aiohttp.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {versions}; ", end="")
    print(f"{given.requests} requests of {LATENCY * 1000:.0f} ms, medians of {given.rounds} interleaved rounds\n")
    print(f"| in flight | {Bare.name}, requests/s (CPU ms) | {Ours.name}, requests/s (CPU ms) | ratio (of pairs) |")
    print("|--:|--:|--:|--:|")
    with server() as port:
        for concurrency in given.concurrency:
            print(_row(concurrency, given.rounds, given.requests, port), flush=True)
    print("\n| one server, requests/s (CPU ms) | two servers, requests/s (CPU ms) | ratio (of pairs) |")
    print("|--:|--:|--:|")
    with server(AT_A_TIME) as first, server(AT_A_TIME) as second:
        print(_fleet_row(given.rounds, given.requests, first, second))


def _row(concurrency: int, rounds: int, requests: int, port: int) -> str:
    cells = _compared(lambda: Bare(port, concurrency), lambda: Ours(port, concurrency), rounds, requests)
    return f"| {concurrency} | {cells}"


def _fleet_row(rounds: int, requests: int, first: int, second: int) -> str:
    cells = _compared(lambda: Ours(first, AT_A_TIME), lambda: Ours(first, AT_A_TIME, second), rounds, requests)
    return f"| {cells}"


def _compared(peer: Callable[[], Bare | Ours], client: Callable[[], Ours], rounds: int, requests: int) -> str:
    """Return the cells of two clients that take turns: their medians, and the median ratio of the pairs."""
    pairs = []
    for _ in range(rounds):
        pairs.append([asyncio.run(speed(make(), requests)) for make in (peer, client)])
    cells = []
    for column in zip(*pairs, strict=True):
        speeds, cpu = zip(*column, strict=True)
        cells.append(f"{statistics.median(speeds):.0f} ({statistics.median(cpu):.2f})")
    ratio = statistics.median(theirs / peers for (peers, _), (theirs, _) in pairs)
    return f"{cells[0]} | {cells[1]} | {ratio:.2f} |"


if __name__ == "__main__":
    main()
