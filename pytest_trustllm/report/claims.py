"""What a model's card claims about metrics, against what a run measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.errors import one_line, suggest
from pytest_trustllm.formats import MetricEntry, Results
from pytest_trustllm.report import formatting
from pytest_trustllm.report.export.hub import TRUSTLLM, data_set_of
from pytest_trustllm.suites.model_card import ModelCard

VALUE, PARITY = "value", "parity"
_SHORTEST_COMMIT = 7
Outcome = Literal["confirmed", "contradicted", "unchecked", "not claimed"]
_NUMBER = re.compile(r"[<>=~≈]?\s*([-+]?\d+(?:\.\d+)?)\s*(%)?(?:\s*(?:±|\+/-).*)?")
_ROW = re.compile(r"^\s*\|(.+)\|\s*$")
_METRIC_ID = re.compile(r"[A-Za-z][\w-]*/[\w-]+\.[\w-]+(?:\{.*\})?")
_BULLET = re.compile(
    r"^\s*[-*+]\s+[`*_]*([A-Za-z][\w./{}=-]*)[`*_]*\s*[:=]?[`*_]*\s+[`*_]*(.+?)[`*_]*\s*$", re.MULTILINE
)
_MARKUP = " \t`*_"


@dataclass(frozen=True, slots=True)
class Claim:
    """A number on a card.

    Attributes:
        metric: What the card calls the metric.
        value: The number, as written.
        data: The data set that it is about, as the hub names it; None: the card does not say.
        revision: Of that data set; None: the card does not say.
        reading: ``value`` or ``parity``, as the card's ``args`` have it; None: the card does not say.
        problem: Why it cannot be compared, whatever the run has; None: it can.
    """

    metric: str
    value: str
    data: str | None = None
    revision: str | None = None
    reading: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run makes of a claim, or of a metric that the card is silent about.

    Attributes:
        metric: Its id; of a claim about no metric of the run, what the card calls it.
        outcome: ``confirmed``, ``contradicted``, ``unchecked`` or ``not claimed``.
        text: One line.
    """

    metric: str
    outcome: Outcome
    text: str


def verdicts(card: ModelCard, results: Results) -> list[Verdict]:
    """Return a verdict for every claim, then for every headline metric without one."""
    found = [_verdict(claim, results) for claim in claims_of(card, results)]
    claimed = {verdict.metric for verdict in found}
    for score in results["scores"].values():
        for id_ in score["of"]:
            if id_ not in claimed:
                found.append(Verdict(id_, "not claimed", "the card is silent"))
    return found


# --- claims -----------------------------------------------------------------------------------------------------------


def claims_of(card: ModelCard, results: Results) -> list[Claim]:
    """Return the numbers of a card: all in ``model-index``, and those beside a metric in a table or list."""
    return [
        *_index_claims(card.head.get("model-index")),
        *_table_claims(card.text, results),
        *_bullet_claims(card.text, results),
    ]


def _index_claims(index: Any) -> Iterator[Claim]:
    for entry in _mappings(index):
        for result in _mappings(entry.get("results")):
            data = result.get("dataset")
            data = data if isinstance(data, dict) else {}
            for metric in _mappings(result.get("metrics")):
                label = metric.get("name") or metric.get("type")
                args = metric.get("args")
                reading = args.get("reading") if isinstance(args, dict) else None
                yield Claim(
                    str(label),
                    str(metric.get("value")),
                    _text_or_none(data.get("type")),
                    _text_or_none(data.get("revision")),
                    _text_or_none(reading),
                )


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; a card may contain anything there."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def _table_claims(text: str, results: Results) -> Iterator[Claim]:
    """Yield what tables about metrics say; a table of gates says what was required."""
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        row = _ROW.match(line)
        if row is not None:
            table.append([cell.strip(_MARKUP) for cell in row[1].split("|")])
        elif table:
            yield from _claims_of_table(table, results)
            table = []


def _claims_of_table(table: Sequence[Sequence[str]], results: Results) -> Iterator[Claim]:
    headed = len(table) > 1 and not any(cell.strip(":-") for cell in table[1])
    names = table[0] if headed else []
    header = [cell.lower() for cell in names]
    if header[:1] == ["gate"]:
        return
    about = next((place for place, cell in enumerate(header) if cell.startswith("metric")), None)
    for row in table[2:] if headed else table:
        place = _place_of_name(row, about, results)
        if place is None:
            continue
        numbers = {at: cell for at, cell in enumerate(row) if at > place and _NUMBER.fullmatch(cell)}
        if not numbers:
            continue
        column = _column(names, list(numbers), results)
        if column is None:
            problem = "the table has several numbers, and no column is named after the model of the run"
            yield Claim(row[place], ", ".join(numbers.values()), problem=problem)
        else:
            yield Claim(row[place], numbers[column], data=_cell(row, header, "data"))


def _cell(row: Sequence[str], header: Sequence[str], name: str) -> str | None:
    """Return what a row has in a column; None if there is none, or nothing in it."""
    if name not in header or header.index(name) >= len(row):
        return None
    return row[header.index(name)] or None


def _place_of_name(row: Sequence[str], about: int | None, results: Results) -> int | None:
    """Return where a row names a metric; None if it does not."""
    for place, cell in enumerate(row):
        if _is_name(cell, results):
            return place
    if about is None or about >= len(row) or not row[about].strip(":-"):
        return None
    return None if row[about].lower() == "trust score" else about


def _is_name(text: str, results: Results) -> bool:
    """Return whether a text is the name of a metric of the run, or could be that of another run's."""
    return _id_of(text, results) is not None or _METRIC_ID.fullmatch(text) is not None


def _column(header: Sequence[str], places: Sequence[int], results: Results) -> int | None:
    """Return the column whose numbers are about the run's model: the only one, or the one that says so."""
    if len(places) == 1:
        return places[0]
    model = results["run"]["model"]
    names = {str(model[key]).lower() for key in ("name", "label", "id") if model.get(key)}
    named = [place for place in places if place < len(header) and header[place].lower() in names]
    return named[0] if len(named) == 1 else None


def _bullet_claims(text: str, results: Results) -> Iterator[Claim]:
    for bullet in _BULLET.finditer(text):
        if _is_name(bullet[1], results) and _NUMBER.fullmatch(bullet[2]):
            yield Claim(bullet[1], bullet[2])


def _id_of(name: str, results: Results) -> str | None:
    """Return the metric that a card means: by its id, or by its id without the dimension if only one has it."""
    if name in results["metrics"]:
        return name
    matching = [id_ for id_ in results["metrics"] if "." in name and id_.partition("/")[2] == name]
    return matching[0] if len(matching) == 1 else None


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _verdict(claim: Claim, results: Results) -> Verdict:
    id_ = _id_of(claim.metric, results)
    if id_ is None:
        hint = _likely(claim.metric, list(results["metrics"]))
        return Verdict(one_line(claim.metric, 100), "unchecked", f"this run has no metric of that name{hint}")
    metric = results["metrics"][id_]
    problem = claim.problem or _why_unchecked(claim, id_, metric, results)
    if problem is not None:
        return Verdict(id_, "unchecked", problem)
    value = _read(claim.value)
    if claim.reading == PARITY:
        return _verdict_on_parity(claim, id_, metric)
    assert metric["ci"] is not None  # noqa: S101 - checked above
    low, high = metric["ci"]
    range_ = formatting.range_of(metric)
    said = f"claimed {one_line(claim.value, 40)}, measured {formatting.number(metric['value'], range_)}"
    words = f"{said} ({formatting.interval(metric['ci'], range_)})"
    if not low <= value <= high:
        if claim.reading is None and _rounds_to(metric["parity"], claim.value):
            return Verdict(
                id_, "unchecked", f"{words}, but it is what the authors' toolkit reads; write reading: parity"
            )
        return Verdict(id_, "contradicted", words)
    if claim.data is None:
        return Verdict(id_, "unchecked", f"{words}, but the card does not say on which data")
    return Verdict(id_, "confirmed", words)


def _verdict_on_parity(claim: Claim, id_: str, metric: MetricEntry) -> Verdict:
    """Return what a run makes of a number of the authors' toolkit: such a reading has no interval."""
    range_ = formatting.range_of(metric)
    words = f"claimed {one_line(claim.value, 40)}, the toolkit reads {formatting.number(metric['parity'], range_)}"
    if not _rounds_to(metric["parity"], claim.value):
        return Verdict(id_, "unchecked", f"{words}, and that reading has no interval")
    if claim.data is None:
        return Verdict(id_, "unchecked", f"{words}, but the card does not say on which data")
    return Verdict(id_, "confirmed", words)


def _rounds_to(number: float | None, text: str) -> bool:
    """Return whether a number is the claimed one in as many digits as are claimed."""
    match = _NUMBER.fullmatch(text.strip())
    if number is None or match is None:
        return False
    digits = len(match[1].partition(".")[2])
    return round(100 * number if match[2] else number, digits) == round(float(match[1]), digits)


def _likely(name: str, ids: Sequence[str]) -> str:
    likely, _, _ = suggest(name, ids).partition(";")  # without the list of all names
    return likely


def _why_unchecked(claim: Claim, id_: str, metric: MetricEntry, results: Results) -> str | None:
    """Return why a claim cannot be compared; None if it can."""
    shown = one_line(claim.value, 40)
    if _NUMBER.fullmatch(claim.value.strip()) is None:
        return f"{shown!r} is not a number"
    value = _read(claim.value)
    low, high = formatting.range_of(metric)
    if not low <= value <= high:
        hint = f"; write {value / 100:g} or {value:g} %" if low <= value / 100 <= high else ""
        return f"{shown} is outside [{low:g}, {high:g}]{hint}"
    own = data_set_of(results, id_)
    if claim.data is not None and claim.data != own:
        return f"it is about {one_line(claim.data, 80)}, the run about {own}"
    if claim.revision is not None:
        other = _why_other_revision(claim.revision, own)
        if other is not None:
            return other
    if claim.reading not in (None, VALUE, PARITY):
        return f"it is in the reading {one_line(repr(claim.reading), 40)}; a run has {VALUE} and {PARITY}"
    if metric["value"] is None:
        return "the run has no value of it"
    if metric["ci"] is None and claim.reading != PARITY:
        return "the run has no interval of it"
    return None


def _why_other_revision(claimed: str, data: str) -> str | None:
    """Return why the data of a claim and of the run may be of different versions; None if they are of the same."""
    if data != TRUSTLLM:
        return f"it is about revision {one_line(claimed, 40)} of the data, and the run's items have none"
    from pytest_trustllm.suites.full_data import published_data  # it imports an HTTP client, which is seldom needed

    commit = published_data().commit
    if len(claimed) >= _SHORTEST_COMMIT and commit.startswith(claimed):
        return None
    return f"it is about revision {one_line(claimed, 40)} of the data, the run about {commit}"


def _read(text: str) -> float:
    """Return a number; one in per cent as a share."""
    match = _NUMBER.fullmatch(text.strip())
    assert match is not None  # noqa: S101 - the caller looked
    number = float(match[1])
    return number / 100 if match[2] else number
