"""Opening a store of many answers and finding one, against SQLite and against reading the file without its index.

    python benchmarks/store.py [--answers 1000000] [--rounds 3]

Each is opened in a process of its own, in turns; the files are in the page cache. Ratios are medians of each round's
ratio to SQLite.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _commands import busy, machine

from pytest_trustllm.engine.line_index import path_of_index
from pytest_trustllm.engine.store import Shelf
from pytest_trustllm.types import Response

WAYS = ("sqlite", "file", "index")
NAMES = {"sqlite": "SQLite, table with a primary key", "file": "store without index", "index": "store"}
INFO = {"id": "benchmark"}
OPENED: list[object] = []
"""What stays open until its memory was looked at."""
ANSWER = "The answer is about as long as most answers are, " * 6


def key_of(number: int) -> str:
    """Return the key of an answer."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill(directory: Path, answers: int) -> None:
    """Write the same answers to a store and to SQLite."""
    shelf = Shelf(directory, INFO)
    for number in range(answers):
        shelf.put(key_of(number), Response(text=ANSWER + str(number)))
    shelf.close()
    Shelf(directory, INFO).close()  # this writes the index
    with sqlite3.connect(directory / "answers.sqlite") as database:
        database.execute("create table answers (key text primary key, answer text) without rowid")
        rows = ((key_of(number), ANSWER + str(number)) for number in range(answers))
        database.executemany("insert into answers values (?, ?)", rows)


def find(way: str, directory: Path, number: int) -> str | None:
    """Open one of them and return an answer."""
    if way == "sqlite":
        database = sqlite3.connect(directory / "answers.sqlite")
        OPENED.append(database)
        (text,) = database.execute("select answer from answers where key = ?", (key_of(number),)).fetchone()
        return str(text)
    shelf = Shelf(directory, INFO, read_only=True)
    response = shelf.get(key_of(number))
    OPENED.append(shelf)
    return None if response is None else response.text


def measure(way: str, directory: Path, answers: int) -> tuple[float, float]:
    """Return milliseconds and MB of a new process that opens one of them and finds an answer, without its imports."""
    index = next(path for path in directory.glob("*.jsonl")).with_suffix(".index")
    aside = index.with_suffix(".aside")
    if way == "file":
        index.rename(aside)
    command = [sys.executable, __file__, "--find", way, str(directory), str(answers // 2)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if way == "file":
        aside.rename(index)
    milliseconds, megabytes = done.stdout.split()
    return float(milliseconds), float(megabytes)


def _found(way: str, directory: Path, number: int) -> None:
    before = _resident()
    began = time.perf_counter()
    assert find(way, directory, number) == ANSWER + str(number)
    seconds = time.perf_counter() - began
    print(1000 * seconds, _resident() - before)


def _resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--find", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.find:
        way, directory, number = given.find
        _found(way, Path(directory), int(number))
        return
    print(machine(busy(), ()), f"SQLite {sqlite3.sqlite_version}.")
    print(f"{given.answers:,} answers; medians of {given.rounds} interleaved rounds.\n")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        fill(directory, given.answers)
        assert path_of_index(next(directory.glob("*.jsonl"))).exists(), "too few answers for an index"
        rounds = [{way: measure(way, directory, given.answers) for way in WAYS} for _ in range(given.rounds)]
    print("| | opened and one answer found, ms | ratio | memory for it, MB |")
    print("|---|--:|--:|--:|")
    for way in WAYS:
        ratio = statistics.median(found[way][0] / found["sqlite"][0] for found in rounds)
        milliseconds, megabytes = (statistics.median(found[way][i] for found in rounds) for i in (0, 1))
        print(f"| {NAMES[way]} | {milliseconds:,.1f} | {ratio:,.2f} | {megabytes:,.0f} |")


if __name__ == "__main__":
    main()
