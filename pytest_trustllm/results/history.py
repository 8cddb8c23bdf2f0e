"""Runs kept over time: a directory with a file per run, or an SQLite database.

An entry holds the results and the score of every sample, but no text of the model or the data. A directory needs no
server and no locks: every run adds one file, so that jobs may write at once and directories may be merged by copying.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_trustllm.config.files import write_whole
from pytest_trustllm.config.output_paths import check_directory, check_length, check_permission
from pytest_trustllm.config.paths import exists, files_below, is_directory
from pytest_trustllm.config.reading import MOST_LINE_BYTES, parse_json, read_json
from pytest_trustllm.config.typed import Mismatch, checked
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import HistoryEntry, Record, Results, RunEntry, TaskScores
from pytest_trustllm.results.document import SCHEMA as RESULTS_SCHEMA
from pytest_trustllm.results.files import read_results, records_of

SCHEMA: Literal["pytest-trustllm/history/1"] = "pytest-trustllm/history/1"
DATABASES = (".sqlite", ".sqlite3", ".db")
"""Endings of an SQLite history; any other path is a directory."""
_VERSION = 1
_COLUMNS = ("id", "started", "document")
_STEPS = 100_000
"""Instructions of SQLite after which it looks whether a signal came."""
_TIME = re.compile(r"[0-9TZ.+-]{1,40}")
_ID = re.compile(r"[\w-]{1,100}")
_SECONDS = 30.0
"""How long a job waits for another one that writes to the same database."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Runs that were read from histories.

    Attributes:
        entries: In the order of their start.
        ignored: Files in the directories that are neither entries nor results.
        unreadable: Files in the directories that are not JSON -> why; nobody knows what they were.
    """

    entries: Sequence[HistoryEntry]
    ignored: Sequence[Path]
    unreadable: Mapping[Path, str]


def entry_of(results: Results, records: Iterable[Record], report: str | None = None) -> HistoryEntry:
    """Return the entry of a run.

    Args:
        results: The results document, concealed: reasons of gates may quote.
        records: Of its samples; only ids, fingerprints and values are kept.
        report: Where its report is, relative to the history.
    """
    scores: dict[str, TaskScores] = {}
    # in an order that does not depend on which xdist worker was faster
    for record in sorted(records, key=lambda record: (record["task"], record["id"])):
        _add(scores, record["task"], record, record["value"])
        for task, score in record["also"].items():
            _add(scores, task, record, score["value"])
    return {"schema": SCHEMA, "results": {**results, "samples": None}, "scores": scores, "report": report}


def _add(scores: dict[str, TaskScores], task: str, record: Record, value: float | None) -> None:
    entry = scores.setdefault(task, {"ids": [], "fingerprints": [], "values": [], "clusters": []})
    entry["ids"].append(record["id"])
    entry["fingerprints"].append(record["fingerprint"])
    entry["values"].append(value)
    entry["clusters"].append(record.get("cluster"))


# --- writing ----------------------------------------------------------------------------------------------------------


def is_database(path: Path) -> bool:
    """Return whether a history is an SQLite database, by its name."""
    return path.suffix in DATABASES


def check_writable(path: Path, flag: str) -> None:
    """Refuse a history that cannot be added to; called before the run, which may be expensive.

    Raises:
        ResultsError: It is a file where a directory is needed, no database of this version, or nobody may write there.
    """
    if is_database(path):
        if exists(path):
            with closing(_connected(path, flag)):
                pass
            check_permission(path, path, flag)
        check_directory(path.parent, path, flag)  # SQLite makes files of its own beside a database
        check_length(path.with_name(f"{path.name}-journal"), path, flag)
    elif exists(path) and not is_directory(path):
        raise ResultsError(
            f"{flag}: {path} is a file; give a directory, or the name of an SQLite database that ends in .sqlite"
        )
    else:
        check_directory(path, path, flag)


def append(path: Path, entry: HistoryEntry, flag: str) -> None:
    """Add a run to a history.

    Raises:
        ResultsError: It cannot be written.
    """
    text = json.dumps(entry, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    run = entry["results"]["run"]
    if not is_database(path):
        write_whole(path / _file_name(run), [text, "\n"], flag)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_connected(path, flag)) as database, database:
            database.execute(
                "INSERT OR REPLACE INTO runs (id, started, document) VALUES (?, ?, ?)",
                (run["id"], run["started"], text),
            )
    except (sqlite3.Error, OSError) as e:
        raise ResultsError(f"{flag}: {path} cannot be written: {one_line(e)}") from None


def _file_name(run: RunEntry) -> str:
    """Return the name of a run's file; a results file of somebody else may have anything in place of time and id."""
    started, id_ = run["started"].replace(":", "").replace("+0000", "Z"), run["id"]
    if not _TIME.fullmatch(started) or not _ID.fullmatch(id_):
        started, id_ = "unknown", hashlib.sha256(f"{started}/{id_}".encode(errors="backslashreplace")).hexdigest()
    return f"{started}-{id_[:12]}.json"


def _connected(path: Path, flag: str) -> sqlite3.Connection:
    """Open a database, and make its table if it is new.

    It may be anybody's: views, triggers and computed columns are programs, which may never end. They are refused.

    Raises:
        ResultsError: It is no database, or one of another version.
    """
    database = None
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        database = sqlite3.connect(path, timeout=_SECONDS)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_LINE_BYTES)
        database.set_progress_handler(lambda: 0, _STEPS)  # Python sees signals there
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0 and version == 0:
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, started TEXT, document TEXT)")
                database.execute(f"PRAGMA user_version = {_VERSION}")
            version = _VERSION
        if version == _VERSION:
            _check_tables(database)
        elif version == 0:
            raise sqlite3.DatabaseError("it is a database of something else")
    except (sqlite3.Error, OSError) as e:
        if database is not None:
            database.close()
        raise ResultsError(f"{flag}: {path} is not a history: {one_line(e)}") from None
    if version != _VERSION:
        database.close()
        raise ResultsError(
            f"{flag}: {path} is a history of version {version}, this pytest-trustllm has {_VERSION}; use another file"
        )
    return database


def _check_tables(database: sqlite3.Connection) -> None:
    """Refuse a database that has more than the table of runs.

    Raises:
        sqlite3.Error: It has.
    """
    kinds = []
    for kind, name in database.execute("SELECT type, name FROM sqlite_master"):
        if kind != "index" and not (kind == "table" and name.startswith("sqlite_")):
            kinds.append((kind, name))
    columns = database.execute("PRAGMA table_xinfo(runs)").fetchall()
    is_plain = [(name, hidden) for _, name, _, _, _, _, hidden in columns] == [(name, 0) for name in _COLUMNS]
    if kinds != [("table", "runs")] or not is_plain:
        raise sqlite3.DatabaseError(f"expected one table, runs ({', '.join(_COLUMNS)}), and nothing else")


# --- reading ----------------------------------------------------------------------------------------------------------


def read(paths: Sequence[Path]) -> Kept:
    """Read histories: directories with entries or results files, databases, and single files of either kind.

    A run that is in several of them counts once.

    Raises:
        ResultsError: One of them is missing or invalid, or there is no run.
    """
    entries: dict[str, HistoryEntry] = {}
    ignored: list[Path] = []
    unreadable: dict[Path, str] = {}
    for path in paths:
        if not exists(path):
            raise ResultsError(f"{path}: there is no such history")
        for entry in _entries(path, ignored, unreadable):
            entries.setdefault(entry["results"]["run"]["id"], entry)
    if not entries:
        because = "".join(f" ({reason})" for reason in list(unreadable.values())[:1])
        raise ResultsError(f"{', '.join(map(str, paths))}: no run is in it{because}; add some with --trust-history")
    ordered = sorted(entries.values(), key=lambda entry: _order(entry["results"]))
    return Kept(ordered, ignored, unreadable)


def _order(results: Results) -> tuple[str, str]:
    run = results["run"]
    return run["started"], run["id"]


def _entries(path: Path, ignored: list[Path], unreadable: dict[Path, str]) -> Iterator[HistoryEntry]:
    if is_database(path):
        yield from _database_entries(path)
    elif is_directory(path):
        yield from _directory_entries(path, ignored, unreadable)
    else:
        entry = _file_entry(path, read_json(path, path, ResultsError))
        if entry is None:
            raise ResultsError(f"{path}: expected a file of a history ({SCHEMA}) or a results file ({RESULTS_SCHEMA})")
        yield entry


def _directory_entries(path: Path, ignored: list[Path], unreadable: dict[Path, str]) -> Iterator[HistoryEntry]:
    for file in files_below(path, ".json", str(path), ResultsError):
        try:
            document = read_json(file, file, ResultsError)
        except ResultsError as e:  # of a job that was killed, perhaps; other runs are not worse for it
            unreadable[file] = str(e)
            continue
        entry = _file_entry(file, document)
        if entry is None:
            ignored.append(file)
        else:
            yield entry


def _database_entries(path: Path) -> Iterator[HistoryEntry]:
    with closing(_connected(path, "history")) as database:
        try:
            # one document at a time; their order is made of what is in them
            rows = database.execute("SELECT rowid, id FROM runs").fetchall()
            for number, id_ in rows:
                (text,) = database.execute("SELECT document FROM runs WHERE rowid = ?", (number,)).fetchone()
                where = f"{path}: run {one_line(id_, 40)}"
                yield _checked(parse_json(str(text), where, ResultsError), where)
        except sqlite3.Error as e:
            raise ResultsError(f"{path}: cannot be read: {one_line(e)}") from None


def _file_entry(path: Path, document: object) -> HistoryEntry | None:
    """Return the run in a file, whose JSON is given; None if it is a document of another kind.

    Raises:
        ResultsError: It is an entry or a results file, but of another version or not a complete one.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith("pytest-trustllm/"):
        return None
    if schema == RESULTS_SCHEMA:
        results = read_results(path)
        return entry_of(results, records_of(results, path))
    return _checked(document, str(path))


def _checked(document: Any, where: str) -> HistoryEntry:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ResultsError(f"{where}: expected schema {SCHEMA}, found {one_line(repr(schema), 60)}")
    try:
        entry = checked(document, HistoryEntry)
    except Mismatch as e:
        raise ResultsError(f"{where}: not a complete entry of a history: {e}") from None
    for task, scores in entry["scores"].items():
        lengths = {len(scores["ids"]), len(scores["fingerprints"]), len(scores["values"]), len(scores["clusters"])}
        if len(lengths) > 1:
            raise ResultsError(f"{where}: scores[{one_line(repr(task), 60)}]: its lists differ in length")
    return entry
