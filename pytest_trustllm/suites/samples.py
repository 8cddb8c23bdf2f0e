"""A task and its data file to samples: which rows, in which pairs, with which prompts."""

from __future__ import annotations

import dataclasses
import itertools
import os.path
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_trustllm.config import paths
from pytest_trustllm.config.templates import is_template
from pytest_trustllm.errors import ScorerError, SuiteError, one_line, suggest
from pytest_trustllm.suites.audited import REPLAY, AuditedRun, again_of, prompts_of
from pytest_trustllm.suites.model_card import ModelCard, read_card
from pytest_trustllm.suites.pinned import rows_of
from pytest_trustllm.suites.rendering import rendered
from pytest_trustllm.suites.rows import Archive, DataRow, read_lines
from pytest_trustllm.suites.talks import ANSWERS, Talk, check_turns
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.toolbox import check_results
from pytest_trustllm.suites.transforms import Transform
from pytest_trustllm.types import TRANSFORM, Messages, Sample, digest

_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample before it is rendered: its id and its rows.

    Attributes:
        id: Four-digit row number (a pair: of its second row).
        rows: One row, or the two of a pair.
        numbers: Row numbers in the file, from 0.
        transform: How its prompt is changed; None: the task changes none.
    """

    id: str
    rows: tuple[DataRow, ...]
    numbers: tuple[int, ...]
    transform: Transform | None = None

    def transformed(self, transform: Transform) -> Entry:
        """Return the sample whose prompt is changed in a way; its id says in which."""
        return replace(self, id=f"{self.id}.{transform.name}", transform=transform)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A row with its number in the data file, from 0."""

    number: int
    row: DataRow


class DataSource:
    """Where this run's rows come from.

    Args:
        archive: The TrustLLM data set; None: the bundled sample items.
        root: The project; its files are named relative to it, so that two checkouts use the same names.
        card: The model's card.
        audited: A saved run.

    Attributes:
        hashes: Data file -> SHA-256, for every file that has been read.
    """

    def __init__(
        self,
        archive: Archive | None,
        root: Path | None = None,
        card: ModelCard | None = None,
        audited: AuditedRun | None = None,
    ) -> None:
        self.archive = archive
        self.root = root
        self.card = card
        self.audited = audited
        self.hashes: dict[str, str] = {}
        self._rows: dict[str, Sequence[DataRow]] = {}

    @property
    def name(self) -> str:
        """``sample``, or the path of the data set."""
        if self.archive is None:
            return "sample"
        return paths.shown(self.archive.path, self.root)

    def forget(self) -> None:
        """Free the memory of the rows; they are read again when needed."""
        self._rows.clear()

    def is_about_something(self, task: Task) -> bool:
        """Return whether there is what a task is about: a card or a saved run, which may still have no rows for it."""
        without_card = task.data.card and self.card is None
        without_run = task.data.audit is not None and self.audited is None
        return not without_card and not without_run

    def file(self, task: Task) -> str | None:
        """Return the name of the task's data file in this run, or None if the task has no rows here."""
        if not self.is_about_something(task):
            return None
        if task.data.audit is not None and self.audited is not None:
            return self.audited["file"] if self.audited["rows"].get(task.data.audit) else None
        return data_file(task, self.root, bundled=self.archive is None)

    def entries(self, task: Task) -> list[Entry]:
        """Return the task's samples, not rendered yet, in file order; none if the task has no rows here.

        Raises:
            SuiteError: The file is missing or unreadable, no row matches, or a row has no partner.
        """
        file = self.file(task)
        if file is None:
            return []
        rows = self._matching(task, file)
        pairing = task.data.pair
        if pairing is None:
            entries = [_entry(numbered) for numbered in rows]
            if not task.transforms:
                return entries
            return [entry.transformed(transform) for entry in entries for transform in task.transforms]
        where = f"{task.id}: {file}"
        if pairing.quoted is not None:
            pairs = _pairs_quoting(pairing.quoted, rows, where)
        else:
            pairs = _pairs_by(pairing.by or "", pairing.first or {}, rows, where)
        return sorted(pairs, key=lambda entry: entry.id)

    def check_metrics(self, task: Task) -> None:
        """Look for a metric that counts no sample: its gate would never be judged.

        Raises:
            SuiteError: For the first such metric, with the values that its rows have instead.
        """
        restricted = [metric for metric in task.metrics if metric.where]
        if not restricted:
            return
        groups = [_groups(task, entry, _where(task, entry)) for entry in self.entries(task)]
        for metric in restricted:
            # Group values are text, whatever type the data has.
            wanted = {name: str(value) for name, value in metric.where.items()}
            if not any(wanted.items() <= group.items() for group in groups):
                raise SuiteError(f"{task.id}: metric {metric.name!r}: where: {_unmatched(wanted, groups)}")

    def check_templates(self, task: Task, readers: Sequence[Task] = ()) -> None:
        """Look for a template or a scorer that fits no row: one that some rows do not fit costs those samples only.

        Args:
            task: The task that has the rows.
            readers: Tasks that score its responses.

        Raises:
            SuiteError: No row can be rendered or scored; the error is that of the first row. Or a tool's result has a
                field that no row has.
        """
        if task.toolbox is not None:
            rows = [row for entry in self.entries(task) for row in entry.rows]
            check_results(task.toolbox, rows, task.id)
        for scoring_task in (task, *readers):
            self._check_fits(task, scoring_task)

    def _check_fits(self, task: Task, scoring_task: Task) -> None:
        first_error: SuiteError | None = None
        check_sample = getattr(scoring_task.scorer, "check_sample", None)
        for entry in self.entries(task):
            try:
                sample = self.sample(task, entry)
                if check_sample is not None:
                    check_sample(sample)
            except ScorerError as e:
                where = f"{_where(task, entry)}: "
                what = str(e).removeprefix(where)
                first_error = first_error or SuiteError(f"{where}scorer {scoring_task.scorer_name!r}: {what}")
            except SuiteError as e:
                first_error = first_error or e
            else:
                return
        if first_error is not None:
            raise first_error

    def sample(self, task: Task, entry: Entry) -> Sample:
        """Render one sample.

        Raises:
            SuiteError: A template names a field that the row does not have, or the row has no usable prompt.
        """
        file = self.file(task) or ""
        where = _where(task, entry)
        again = None
        prompts: tuple[Messages, ...] = ()
        if task.data.audit == REPLAY:
            again, prompts = again_of(entry.rows[0]), prompts_of(entry.rows[0])
        elif getattr(task.scorer, "asks", True):
            prompts = tuple(_prompt(task, row, where) for row in entry.rows)
        group = _groups(task, entry, where)
        cluster = paraphrase = not_concerned = None
        if entry.transform is not None:
            if not all(map(entry.transform.can_change, prompts)):
                not_concerned = f"the transform {entry.transform.name!r} can change nothing in this prompt"
            prompts = tuple(entry.transform.applied(prompt) for prompt in prompts)
            # All ways to ask one row depend on each other
            cluster = f"row {entry.numbers[0]}"
            paraphrase = entry.transform.seed if entry.transform.is_paraphrase else None
        if task.cluster is not None:
            cluster = _cluster(task.cluster, entry.rows[0], where)
        rows = [dict(row) for row in entry.rows]
        return Sample(
            task=task.id,
            id=entry.id,
            rows=entry.rows,
            prompts=prompts,
            # of a repetition, the data is another run's: no row of it is that of a prompt
            origins=() if again else tuple((file, number) for number in entry.numbers[: len(prompts)]),
            group=group,
            fingerprint=digest([task.id, task.version, prompts, rows, *_script(task), *_reworded(paraphrase)])[:32],
            cluster=cluster,
            again=again,
            paraphrase=paraphrase,
            not_concerned=not_concerned,
        )

    def _matching(self, task: Task, file: str) -> list[_Numbered]:
        """Return the rows of the file that belong to the task.

        Raises:
            SuiteError: The file cannot be read, or there are none.
        """
        rows = [_Numbered(number, self._looked_up(task, row)) for number, row in enumerate(self._read(task, file))]
        conditions = task.data.where or {}
        for field, accepted in conditions.items():
            rows = [numbered for numbered in rows if numbered.row.get(field) in accepted]
        if not rows:
            with_what = f" with {dict(conditions)}" if conditions else ""
            raise SuiteError(f"{task.id}: {file} has no row{with_what}")
        return rows

    def _looked_up(self, task: Task, row: DataRow) -> DataRow:
        """Return a row with what the model's card says about it, and where if that is what is scored."""
        if not task.data.card or self.card is None or task.data.audit is not None:
            return row
        self.hashes[paths.shown(self.card.path, self.root)] = self.card.sha256
        patterns = [[str(entry) for entry in row.get(name, ())] for name in ("keys", "headings", "words")]
        passages = self.card.find(*patterns)
        found = {**row, "found": "\n".join(passage.text for passage in passages)}
        if not getattr(task.scorer, "asks", True):
            found["passages"] = [[passage.place, passage.text] for passage in passages]
        return found

    def _read(self, task: Task, file: str) -> Sequence[DataRow]:
        name = file if task.data.audit is None else f"{file}#{task.data.audit}"  # one file, several lists of rows
        if name not in self._rows:
            self._rows[name], self.hashes[file] = self._rows_and_hash(task, file)
        return self._rows[name]

    def _rows_and_hash(self, task: Task, file: str) -> tuple[Sequence[DataRow], str]:
        spec = task.data
        if spec.audit is not None and self.audited is not None:
            return self.audited["rows"][spec.audit], self.audited["sha256"]
        if self.archive is not None and file == spec.trustllm:
            rows = self.archive.rows(file)
            return rows, self.archive.hashes[file]
        if spec.samples is not None:
            return read_lines(spec.samples, file)
        if spec.pinned is not None:
            try:
                return rows_of(spec.pinned, task.fetched_as), spec.pinned.sha256
            except SuiteError as e:
                raise SuiteError(f"{task.id}: {e}") from None
        rows_in_suite = spec.inline or ()
        return rows_in_suite, digest(rows_in_suite)


def data_file(task: Task, root: Path | None, *, bundled: bool) -> str | None:
    """Return the name of a task's data file, or None if the task has no rows.

    Args:
        task: The task.
        root: The project; its files are named relative to it.
        bundled: The run uses the bundled sample items, not the TrustLLM data set.
    """
    spec = task.data
    if not bundled and spec.trustllm is not None:
        return spec.trustllm
    if spec.samples is not None:
        return paths.shown(spec.samples, root)
    if spec.pinned is not None:
        return f"{task.suite}/{spec.pinned.base_name}"
    if spec.inline is not None:
        return f"{task.suite}.yaml#{task.name}"
    return None


def open_data(
    name: str, root: Path | None = None, card: Path | None = None, audited: AuditedRun | None = None
) -> DataSource:
    """Return the data that ``--trust-data`` names: ``sample``, ``full``, or a path.

    Args:
        name: Value of the option.
        root: The project.
        card: The model's card.
        audited: A saved run.

    Raises:
        SuiteError: The path is not TrustLLM's data set, or the full data has not been downloaded.
    """
    model_card = None if card is None else read_card(card)
    if name == "sample":
        return DataSource(None, root, model_card, audited)
    if name == "full":
        from pytest_trustllm.suites import full_data  # it imports an HTTP client, which few runs need

        path = full_data.downloaded_zip()
    else:
        path = Path(os.path.normpath(name))
    return DataSource(Archive(path, "--trust-data"), root, model_card, audited)


def limited(entries: list[Entry], limit: int | None, seed: int, task: str) -> list[Entry]:
    """Return the first ``limit`` entries of a shuffle that depends on seed and task alone, in file order."""
    if limit is None or limit >= len(entries):
        return entries
    # All ways to ask one row are chosen together
    ways: dict[tuple[int, ...], list[int]] = {}
    for place, entry in enumerate(entries):
        ways.setdefault(entry.numbers, []).append(place)
    rows = list(ways.values())
    random.Random(f"{seed}:{task}").shuffle(rows)  # noqa: S311 - a reproducible choice, not a secret
    chosen = rows[: max(1, limit // len(rows[0]))]
    return [entries[place] for place in sorted(itertools.chain.from_iterable(chosen))]


# --- pairs ------------------------------------------------------------------------------------------------------------


def _entry(*numbered: _Numbered) -> Entry:
    """Return the sample of one row, or of two; it is named after the last."""
    return Entry(
        id=f"{numbered[-1].number:04d}",
        rows=tuple(each.row for each in numbered),
        numbers=tuple(each.number for each in numbered),
    )


def _pairs_by(field: str, mark: Mapping[str, object], rows: Sequence[_Numbered], where: str) -> list[Entry]:
    """Return every second row with the first row of the same ``field``: one first row may have several seconds.

    Args:
        field: Its equal values make a pair.
        mark: Fields that a first row has.
        rows: In file order.
        where: Names task and file in messages.

    Raises:
        SuiteError: A row lacks the field or a partner, or two first rows have the same value.
    """
    firsts: dict[str, _Numbered] = {}
    seconds: list[_Numbered] = []
    for numbered in rows:
        number, row = numbered.number, numbered.row
        if field not in row:
            raise SuiteError(f"{where}: row {number} has no field {field!r}, which makes the pairs")
        is_first = all(row.get(name) == value for name, value in mark.items())
        if not is_first:
            seconds.append(numbered)
            continue
        key = digest(row[field])  # the value may be a list or an object, which no dict takes as a key
        if key in firsts:
            shown = one_line(row[field], 80)
            raise SuiteError(f"{where}: row {number} is another first row with {field!r} = {shown}")
        firsts[key] = numbered

    pairs = []
    for second in seconds:
        first = firsts.get(digest(second.row[field]))
        if first is None:
            shown = one_line(second.row[field], 80)
            raise SuiteError(f"{where}: row {second.number} has no partner with {field!r} = {shown}")
        pairs.append(_entry(first, second))
    paired = {pair.numbers[0] for pair in pairs}
    for first in firsts.values():  # in file order
        if first.number not in paired:
            raise SuiteError(f"{where}: row {first.number} is a first row without a second of the same {field!r}")
    return pairs


def _pairs_quoting(field: str, rows: Sequence[_Numbered], where: str) -> list[Entry]:
    """Return pairs of rows that quote the same texts in a field, in whatever order: "A" or "B", "B" or "A".

    Raises:
        SuiteError: A row has no partner.
    """
    waiting: dict[tuple[str, ...], _Numbered] = {}
    pairs = []
    for numbered in rows:
        quoted = _QUOTED.findall(str(numbered.row.get(field, "")))
        key = tuple(sorted(quoted))
        first = waiting.pop(key, None)
        if first is None:
            waiting[key] = numbered
        else:
            pairs.append(_entry(first, numbered))
    for alone in waiting.values():
        raise SuiteError(f"{where}: row {alone.number} has no partner that quotes the same two texts in {field!r}")
    return pairs


# --- rendering --------------------------------------------------------------------------------------------------------


def _where(task: Task, entry: Entry) -> str:
    """Return how messages name a sample."""
    return f"{task.id}[{entry.id}]"


def _prompt(task: Task, row: DataRow, where: str) -> Messages:
    """Return what a sample begins with: of a conversation, everything up to the first turn of the user."""
    if task.talk is not None:
        check_turns(task.talk, row, where)
        return _beginning(task, task.talk, row, where)
    if task.messages is not None:
        return _given_messages(task, row, where)
    if task.prompt is not None:
        return (("user", rendered(task.prompt, row, where)),)
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SuiteError(f"{where}: the row has no text in 'prompt'; add it, or give the task a 'prompt:' template")
    return (("user", prompt),)


def _script(task: Task) -> list[object]:
    """Return what decides how a sample goes on after its first prompt; nothing for a sample that has only that."""
    parts = (task.talk, task.toolbox)
    return [dataclasses.asdict(part) for part in parts if part is not None]


def _reworded(paraphrase: int | None) -> list[object]:
    """Return what distinguishes the prompt of a paraphrase, which is written later, from the prompt as it is."""
    return [] if paraphrase is None else [["paraphrase", paraphrase]]


def _given_messages(task: Task, row: DataRow, where: str) -> Messages:
    return tuple((role, rendered(content, row, where)) for role, content in task.messages or ())


def _beginning(task: Task, talk: Talk, row: DataRow, where: str) -> Messages:
    """Return the messages before the model's first answer; a simulator may still have to write the user's."""
    messages = _given_messages(task, row, where)
    if task.prompt is not None:
        messages = (("user", rendered(task.prompt, row, where)),)
    if talk.simulator is not None:
        return messages
    return (*messages, ("user", rendered(talk.turns[0], row, where, **{ANSWERS: []})))


def _cluster(field: str | tuple[str, ...], row: DataRow, where: str) -> str:
    """Return a short name for the source item; its text, which may be long, need not travel with every record."""
    return digest(_text(field, row, where, "cluster"))[:12]


def _groups(task: Task, entry: Entry, where: str) -> dict[str, str]:
    """Return group name -> value; of a pair, its second row decides: it says what was changed."""
    row = entry.rows[-1]
    groups = {name: _text(field, row, where, "group") for name, field in task.group.items() if name != TRANSFORM}
    if entry.transform is not None:
        groups[TRANSFORM] = entry.transform.name
    elif TRANSFORM in task.group:  # a project's own group of this name
        groups[TRANSFORM] = _text(task.group[TRANSFORM], row, where, "group")
    return groups


def _unmatched(wanted: Mapping[str, str], groups: Sequence[Mapping[str, str]]) -> str:
    """Return what is wrong with a condition that no sample meets."""
    for name, value in wanted.items():
        values = {group[name] for group in groups}
        if value not in values:
            return f"no row has {name} = {value!r}{suggest(value, values)}"
    return "no row has " + " and ".join(f"{name} = {value!r}" for name, value in wanted.items())


def _text(field: str | tuple[str, ...], row: DataRow, where: str, use: str) -> str:
    """Return a field, the fields joined by dots, or the template over the row."""
    if isinstance(field, tuple):
        return ".".join(_text(name, row, where, use) for name in field)
    if is_template(field):
        return rendered(field, row, where)
    if field not in row:
        raise SuiteError(f"{where}: the row has no field {field!r} for its {use}")
    value = row[field]
    if isinstance(value, list) and value:
        value = value[0]  # some of TrustLLM's files have lists of one label
    return str(value)
