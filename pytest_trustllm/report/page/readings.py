"""What a task's scorer read in the responses, counted: labels in a table, numbers in ranges."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.report.formatting import items_link
from pytest_trustllm.report.page.sample_data import STATUSES, Packed, ReadAnswer

_BRIEF = 3  # readings of a task that are named before its table is opened
_COLUMNS = 12  # of a task's table: its most frequent readings
_RANGES = 8  # that continuous scores are counted in
_NOTHING = "nothing read"


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a task's scorer read, counted.

    Attributes:
        task: ``dimension/task``.
        rows: Names of the lines: the right label where it is known, else the status.
        columns: What was read; of numbers that are rarely alike, their ranges from the least to the greatest.
        cells: Samples, per line and column.
        known: The lines are right labels.
        brief: The most frequent readings, in words.
        link: Address of its items.
    """

    task: str
    brief: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[int]]
    known: bool
    link: str


def breakdowns_of(packed: Packed) -> list[Breakdown]:
    """Return what the scorers read, per task: a confusion table where the right label is known."""
    return [_breakdown(task, readings) for task, readings in packed.readings.items()]


def _breakdown(task: str, readings: Mapping[ReadAnswer, int]) -> Breakdown:
    known = any(read.gold is not None for read in readings)
    answers, ordered = _columns(readings)
    labels = _spellings({read: count for read, count in readings.items() if read.gold is not None}, gold=True)
    cells: dict[str, Counter[str]] = defaultdict(Counter)
    totals: Counter[str] = Counter()
    for read, count in readings.items():
        column = _NOTHING if read.answer is None else answers[read.answer]
        cells[_row_of(read, labels, known=known)][column] += count
        totals[column] += count
    columns = [column for column, _ in totals.most_common()]
    if ordered:
        columns = [column for column in [*ordered, _NOTHING] if column in totals]
    shown = columns
    if len(columns) > _COLUMNS:
        shown = columns[: _COLUMNS - 1]  # the last column has all others
    rows = sorted(cells) if known else [status for status in STATUSES if status in cells]
    names = [one_line(column, 40) for column in shown]
    table = [[cells[row][column] for column in shown] for row in rows]
    brief = _brief(names, table)
    if len(shown) < len(columns):
        names.append(f"{len(columns) - len(shown)} others")
        for row, line in zip(rows, table, strict=True):
            line.append(cells[row].total() - sum(line))
    return Breakdown(
        task=one_line(task, 120),
        brief=brief,
        rows=[one_line(row, 40) for row in rows],
        columns=names,
        cells=table,
        known=known,
        link=items_link(task),
    )


def _brief(names: Sequence[str], table: Sequence[Sequence[int]]) -> str:
    sums = [sum(column) for column in zip(*table, strict=True)]
    most_frequent = sorted(zip(names, sums, strict=True), key=lambda entry: -entry[1])[:_BRIEF]
    return " · ".join(f"{count:,} × {name}" for name, count in most_frequent)


def _columns(readings: Mapping[ReadAnswer, int]) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return answer -> column, and the columns in their order; no order where the frequency decides."""
    answers = {read.answer for read in readings if read.answer is not None}
    numbers = _numbers(answers)
    if len(numbers) == len(answers) and len(answers) > _COLUMNS:
        return _ranges(numbers)
    return _spellings(readings, gold=False), ()


def _spellings(readings: Mapping[ReadAnswer, int], *, gold: bool) -> dict[str, str]:
    """Return each text as it is written most often: ``no`` and ``No`` are one answer."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for read, count in readings.items():
        text = read.gold if gold else read.answer
        if text is not None:
            counts[text.casefold()][text] += count
    spellings = {}
    for texts in counts.values():
        most, _ = min(texts.items(), key=lambda entry: (-entry[1], entry[0]))
        spellings.update(dict.fromkeys(texts, most))
    return spellings


def _numbers(answers: set[str]) -> dict[str, float]:
    """Return those answers that are finite numbers."""
    numbers = {}
    for answer in answers:
        try:
            value = float(answer)
        except ValueError:
            continue
        if math.isfinite(value):
            numbers[answer] = value
    return numbers


def _ranges(numbers: Mapping[str, float]) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return each number's range, of equally wide ones, and the ranges in their order."""
    low, high = min(numbers.values()), max(numbers.values())
    width = (high - low) / _RANGES
    if not 0 < width < math.inf:  # one number in several spellings, or numbers too far apart
        return {answer: answer for answer in numbers}, ()
    names = [f"{low + at * width:.3g} to {low + (at + 1) * width:.3g}" for at in range(_RANGES)]
    ranges = {answer: names[min(_RANGES - 1, int((value - low) / width))] for answer, value in numbers.items()}
    return ranges, names


def _row_of(read: ReadAnswer, labels: Mapping[str, str], *, known: bool) -> str:
    """Return the line of a task's table that a sample is counted in.

    Args:
        read: Of the sample.
        labels: Right label -> how it is written most often.
        known: Of some samples of the task the right label is known.
    """
    if not known:
        return read.status
    return "unknown" if read.gold is None else labels[read.gold]
