"""A task and its data file to samples: which rows, in which pairs, asked how."""

from __future__ import annotations

import os.path
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm import paths
from pytest_trustllm.dataset import Archive, Row, read_lines
from pytest_trustllm.dataspec import Pairing
from pytest_trustllm.errors import SuiteError, one_line
from pytest_trustllm.records import Messages, Sample, digest
from pytest_trustllm.suites import Task
from pytest_trustllm.templates import compiled

_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample before it is rendered: its id and its rows.

    Attributes:
        id: Four-digit row number (a pair: of its second row).
        rows: One row, or the two of a pair.
        numbers: Row numbers in the file, from 0.
    """

    id: str
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]


class Data:
    """Where this run's rows come from.

    Args:
        archive: The TrustLLM data set; None: the bundled sample items.
        root: Files of the project are named relative to it, so that two checkouts name them alike.
    """

    def __init__(self, archive: Archive | None, root: Path | None = None) -> None:
        self.archive = archive
        self.root = root
        self.hashes: dict[str, str] = {}
        self._rows: dict[str, list[Row]] = {}

    @property
    def name(self) -> str:
        """``sample``, or the path of the data set."""
        return "sample" if self.archive is None else paths.shown(self.archive.path, self.root)

    def forget(self) -> None:
        """Let the rows go; they are read again when needed."""
        self._rows.clear()

    def file(self, task: Task) -> str | None:
        """Return the name of the task's data file in this run, or None if the task has no rows here."""
        spec = task.data
        if self.archive is not None and spec.trustllm is not None:
            return spec.trustllm
        if spec.samples is not None:
            return paths.shown(spec.samples, self.root)
        return f"{task.suite}.yaml#{task.name}" if spec.inline is not None else None

    def entries(self, task: Task) -> list[Entry]:
        """Return the task's samples, not rendered yet, in file order; none if the task has no rows here.

        Raises:
            SuiteError: The file is missing or unreadable, no row matches, or a row has no partner.
        """
        file = self.file(task)
        if file is None:
            return []
        rows = list(enumerate(self._read(task, file)))
        for field, accepted in (task.data.where or {}).items():
            rows = [(n, row) for n, row in rows if row.get(field) in accepted]
        if not rows:
            raise SuiteError(
                f"{task.id}: {file} has no row" + (f" with {dict(task.data.where)}" if task.data.where else "")
            )
        if task.data.pair is None:
            return [Entry(f"{n:04d}", (row,), (n,)) for n, row in rows]
        pairs = _pairs_quoted(task, file, rows) if task.data.pair.quoted else _pairs_by(task, file, rows)
        return sorted(pairs, key=lambda e: e.id)

    def _read(self, task: Task, file: str) -> Sequence[Row]:
        if task.data.inline is not None and file == f"{task.suite}.yaml#{task.name}":
            self.hashes[file] = digest(task.data.inline)
            return task.data.inline
        if file not in self._rows:
            if self.archive is not None and file == task.data.trustllm:
                self._rows[file] = self.archive.rows(file)
                self.hashes[file] = self.archive.hashes[file]
            else:
                assert task.data.samples is not None  # noqa: S101 - file() said so
                self._rows[file], self.hashes[file] = read_lines(task.data.samples, file)
        return self._rows[file]

    def sample(self, task: Task, entry: Entry) -> Sample:
        """Render one sample.

        Raises:
            SuiteError: A template names a field that the row does not have, or the row has no usable prompt.
        """
        file = self.file(task) or ""
        where = f"{task.id}[{entry.id}]"
        prompts = tuple(_prompt(task, row, where) for row in entry.rows)
        group = {name: _text(field, entry.rows[-1], where, "group") for name, field in task.group.items()}
        print_of = digest([task.id, task.version, [list(map(list, p)) for p in prompts], [dict(r) for r in entry.rows]])
        return Sample(
            task=task.id,
            id=entry.id,
            rows=entry.rows,
            prompts=prompts,
            origins=tuple((file, n) for n in entry.numbers),
            group=group,
            fingerprint=print_of[:32],
            cluster=None if task.cluster is None else _cluster(task.cluster, entry.rows[0], where),
        )


def open_data(where: str, root: Path | None = None) -> Data:
    """Return the data that ``--trust-data`` names: ``sample``, ``full``, or a path.

    Args:
        where: What the flag says.
        root: The project.

    Raises:
        SuiteError: The path is not TrustLLM's data set, or the full data was not fetched.
    """
    if where == "sample":
        return Data(None, root)
    if where == "full":
        from pytest_trustllm import fulldata  # it knows how to download, which few runs need

        return Data(Archive(fulldata.located(), "--trust-data"), root)
    return Data(Archive(Path(os.path.normpath(where)), "--trust-data"), root)


def limited(entries: list[Entry], limit: int | None, seed: int, task: str) -> list[Entry]:
    """Return the first ``limit`` entries of a shuffle that depends on seed and task alone, in file order."""
    if limit is None or limit >= len(entries):
        return entries
    order = list(range(len(entries)))
    random.Random(f"{seed}:{task}").shuffle(order)  # noqa: S311 - a reproducible choice, not a secret
    return [entries[i] for i in sorted(order[:limit])]


def _pairs_by(task: Task, file: str, rows: Sequence[tuple[int, Row]]) -> list[Entry]:
    pair = _pairing(task)
    by = pair.by or ""
    firsts: dict[str, tuple[int, Row]] = {}
    seconds: list[tuple[int, Row]] = []
    for n, row in rows:
        if by not in row:
            raise SuiteError(f"{task.id}: {file}: row {n} has no field {by!r}, which makes the pairs")
        if any(row.get(field) != value for field, value in (pair.first or {}).items()):
            seconds.append((n, row))
        elif firsts.setdefault(digest(row[by]), (n, row)) != (n, row):
            raise SuiteError(f"{task.id}: {file}: row {n} is another first row with {by!r} = {one_line(row[by], 80)}")
    found = []
    for n, row in seconds:
        first = firsts.get(digest(row[by]))
        if first is None:
            raise SuiteError(f"{task.id}: {file}: row {n} has no partner with {by!r} = {one_line(row[by], 80)}")
        found.append(Entry(f"{n:04d}", (first[1], row), (first[0], n)))
    alone = {n for n, _ in firsts.values()} - {entry.numbers[0] for entry in found}
    if alone:
        raise SuiteError(f"{task.id}: {file}: row {min(alone)} is a first row without a second of the same {by!r}")
    return found


def _pairs_quoted(task: Task, file: str, rows: Sequence[tuple[int, Row]]) -> list[Entry]:
    field = _pairing(task).quoted or ""
    waiting: dict[tuple[str, ...], tuple[int, Row]] = {}
    found = []
    for n, row in rows:
        key = tuple(sorted(_QUOTED.findall(str(row.get(field, "")))))
        if key in waiting:
            first = waiting.pop(key)
            found.append(Entry(f"{n:04d}", (first[1], row), (first[0], n)))
        else:
            waiting[key] = (n, row)
    for n, _ in waiting.values():
        raise SuiteError(f"{task.id}: {file}: row {n} has no partner that quotes the same two texts in {field!r}")
    return found


def _pairing(task: Task) -> Pairing:
    assert task.data.pair is not None  # noqa: S101 - entries() asked before
    return task.data.pair


def _prompt(task: Task, row: Row, where: str) -> Messages:
    if task.messages is not None:
        return tuple((role, _render(content, row, where)) for role, content in task.messages)
    if task.prompt is not None:
        return (("user", _render(task.prompt, row, where)),)
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SuiteError(f"{where}: the row has no text in 'prompt'; add it, or give the task a 'prompt:' template")
    return (("user", prompt),)


def _cluster(field: str | tuple[str, ...], row: Row, where: str) -> str:
    """Return a short name for the source item; its text, which may be long, need not travel with every record."""
    return digest(_text(field, row, where, "cluster"))[:12]


def _text(field: str | tuple[str, ...], row: Row, where: str, use: str) -> str:
    """Return a field, the fields joined by dots, or the template over the row."""
    if isinstance(field, tuple):
        return ".".join(_text(f, row, where, use) for f in field)
    if "{{" in field or "{%" in field:
        return _render(field, row, where)
    if field not in row:
        raise SuiteError(f"{where}: the row has no field {field!r} for its {use}")
    value = row[field]
    return str(value[0] if isinstance(value, list) and value else value)


def _render(template: str, row: Row, where: str) -> str:
    fields = {str(k).replace(" ", "_").replace("-", "_"): v for k, v in row.items()}
    try:
        return str(compiled(template).render(fields))
    except Exception as e:  # noqa: BLE001 - a template is code of the suite's author; it costs its sample, with its name
        raise SuiteError(f"{where}: template {one_line(template, 80)!r}: {one_line(e)}") from None
