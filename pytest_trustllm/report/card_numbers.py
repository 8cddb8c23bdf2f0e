"""The numbers that a model's card gives beside metrics, wherever they stand on it.

``model-index``, tables in Markdown and HTML, lines with bars between their cells, and lists are read number by number.
Every other line that has a metric's name and a number is a claim too, which says that it was not checked.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import ModelInfo, Results
from pytest_trustllm.report.export.hub import parts_of_cell
from pytest_trustllm.report.export.names import name_of
from pytest_trustllm.suites.model_card import ModelCard

NUMBER = re.compile(r"[<>=~≈]?\s*([-+]?(?:\d+(?:\.\d+)?|\.\d+))\s*(%)?(?:\s*(?:±|\+/-).*)?")
_METRIC_ID = re.compile(r"[A-Za-z][\w-]*/[\w-]+\.[\w-]+(?:\{.*\})?")
_BAR = re.compile(r"(?<!\\)\|")
_QUOTE = re.compile(r"^[\s>]*")
_BULLET = re.compile(r"[\s>]*(?:[-*+]|\d{1,9}[.)])\s+")
_TABLE = re.compile(r"<table\b[^<>]{0,500}>(.*?)(?:</table\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_HTML_ROW = re.compile(r"<tr\b[^<>]{0,500}>", re.IGNORECASE)
_HTML_CELL = re.compile(r"<t[hd]\b[^<>]{0,500}>.*?(?=</?t[hdr]\b|</table|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,500}>")
_SEPARATORS = re.compile(r"[\W_]+")
# a whole number is seldom a rate: versions, counts of samples and years stand beside names of metrics too
_RATE = re.compile(
    r"(?<![\w.])(?:\d{0,9}\.\d{1,18}(?!\.?\w)|\d{1,9}\s?(?:%|per ?cent\b)|(?<=[:=|] )\d{1,9}(?!\.?\w))",
    re.IGNORECASE,
)
_MARKUP = " \t`*_\\"
_NUMBER_COLUMNS = frozenset(
    {"", "value", "values", "score", "scores", "result", "results", "rate", "mean", "number", "measured"}
)
_OTHER_COLUMNS = frozenset(
    {
        *("interval", "ci", "confidence", "samples", "samples scored", "scored", "n", "better", "data", "dataset"),
        *("version", "seed", "date", "notes", "no", "dimension", "reading", "model", "stderr", "std", "why not"),
    }
)
_SCORE = "trust score"
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """A number on a card.

    Attributes:
        metric: What the card calls the metric.
        value: The number, as written.
        model: The model that it is about, as ``model-index`` or the table has it; None: the card does not say.
        data: The data set that it is about, as the hub names it; None: the card does not say.
        data_name: What the card calls the data set besides.
        part: Configuration or split of the data set.
        revision: Of the data set; None: the card does not say.
        reading: ``value``, ``parity`` or ``corrected``; None: the card does not say.
        problem: Why it cannot be compared, whatever the run has; None: it can.
    """

    metric: str
    value: str
    model: str | None = None
    data: str | None = None
    data_name: str | None = None
    part: str | None = None
    revision: str | None = None
    reading: str | None = None
    problem: str | None = None


def claims_of(card: ModelCard, results: Results) -> list[Claim]:
    """Return the numbers of a card: all in ``model-index``, and those beside the name of a metric."""
    names = MetricNames(results)
    claims = list(_index_claims(card.head.get("model-index")))
    text = card.text
    for table in _TABLE.finditer(text):
        claims += _claims_of_table(_html_rows(table[1]), names)
    # what stands in a table and in none of its cells may be Markdown, which is shown as such after an empty line
    outside = _TABLE.sub(lambda table: "\n" + _HTML_CELL.sub("\n", table[1]) + "\n", text)
    claims += _claims_of_lines(outside, names)
    claims += [claim for line in card.code.splitlines() for claim in _in_running_text(line, names, "a block of code")]
    return claims


# --- names ------------------------------------------------------------------------------------------------------------


class MetricNames:
    """The names that a card may use for the metrics of a run."""

    def __init__(self, results: Results) -> None:
        self._ids = {*results["metrics"], *(f"{dimension}/score" for dimension in results["scores"])}
        self._model = results["run"]["model"]
        self._by_words: dict[str, list[str]] = {}
        parts: dict[str, str] = {}
        for id_ in results["metrics"]:
            without_dimension = id_.partition("/")[2]
            for name in (id_, without_dimension):
                self._by_words.setdefault(_words(name), []).append(id_)
        for dimension in results["scores"]:
            for words in ("score", _SCORE):
                self._by_words.setdefault(_words(f"{dimension} {words}"), []).append(f"{dimension}/score")
        for id_ in results["metrics"]:
            if "{" not in id_:
                metric = name_of(id_)
                for part in (metric.metric, metric.task, metric.task.partition("/")[2]):
                    parts.setdefault(_words(part), id_.partition("/")[2])
        parts.pop("", None)
        self._parts = parts
        in_text = {words for words in [*self._by_words, *parts] if " " in words}
        longest_first = sorted(in_text, key=len, reverse=True)
        self._in_text = re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b") if in_text else None

    def id_of(self, name: str) -> str | None:
        """Return the metric that is meant, by its id or by its words; the dimension may be missing."""
        if name in self._ids:
            return name
        matching = self._by_words.get(_words(name), [])
        return matching[0] if len(matching) == 1 else None

    def is_name(self, text: str) -> bool:
        """Return whether a text is a name of a metric or task of the run, or could be that of another run's metric."""
        if len(text) > _LONGEST:
            return False
        words = _words(text)
        return words in self._by_words or words in self._parts or _METRIC_ID.fullmatch(text) is not None

    def example_of(self, name: str) -> str | None:
        """Return the whole name of a metric that a name is only a part of; None if it is a part of none."""
        return self._parts.get(_words(name))

    def is_model(self, name: str) -> bool:
        """Return whether a name is one of the run's model."""
        return is_model(name, self._model)

    def first_in(self, line: str) -> str | None:
        """Return the first name of a metric in running text; one word alone, such as 'accuracy', is none."""
        found = _METRIC_ID.search(line)
        if found is not None and self.id_of(found[0]) is not None:
            return found[0]
        match = None if self._in_text is None else self._in_text.search(_words(line))
        return None if match is None else match[0]


def _words(text: str) -> str:
    return _SEPARATORS.sub(" ", text.casefold()).strip()


def is_model(name: str, model: ModelInfo) -> bool:
    """Return whether a name on a card is one of a model: case and punctuation make no difference."""
    own = [str(model.get(key)) for key in ("name", "label", "id") if model.get(key)]
    return any(_same_model(name, each) for each in own)


def _same_model(name: str, other: str) -> bool:
    """Return whether two names mean one model; folders count if both have one."""
    folder, last = _parts_of_model(name)
    other_folder, other_last = _parts_of_model(other)
    if not last or last != other_last:
        return False
    return not folder or not other_folder or folder == other_folder


def _parts_of_model(name: str) -> tuple[str, str]:
    """Return the folder and the name of ``provider:folder/name@revision``, without case and punctuation."""
    bare = re.sub(r"^[a-z]+:", "", name.strip()).partition("@")[0].rstrip("/")
    folder, _, last = bare.rpartition("/")
    return _SEPARATORS.sub("", folder.rpartition("/")[2].casefold()), _SEPARATORS.sub("", last.casefold())


# --- model-index ------------------------------------------------------------------------------------------------------


def _index_claims(index: Any) -> Iterator[Claim]:
    for entry in _mappings(index):
        for result in _mappings(entry.get("results")):
            data = result.get("dataset")
            data = data if isinstance(data, dict) else {}
            part = [_flat(data[key]) for key in ("config", "split") if data.get(key) is not None]
            about = Claim(
                "",
                "",
                model=_text_or_none(entry.get("name")),
                data=_text_or_none(data.get("type")),
                data_name=_text_or_none(data.get("name")),
                part=", ".join(part) or None,
                revision=_text_or_none(data.get("revision")),
            )
            for metric in _mappings(result.get("metrics")):
                args = metric.get("args")
                reading = args.get("reading") if isinstance(args, dict) else None
                label = metric.get("name") or metric.get("type")
                yield replace(about, metric=str(label), value=str(metric.get("value")), reading=_text_or_none(reading))


def _flat(value: Any) -> str:
    return one_line(str(value), _LONGEST)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; a card may contain anything there."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


# --- tables, lists and other lines ------------------------------------------------------------------------------------


def _claims_of_lines(text: str, names: MetricNames) -> Iterator[Claim]:
    """Yield what tables, lists and running text say; lines with bars that follow each other are a table."""
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if _BAR.search(line):
            table.append(_cells(line))
            continue
        if table:
            yield from _claims_of_table(table, names)
            table = []
        bullet = _bullet_claim(line, names)
        if bullet is not None:
            yield bullet
        else:
            yield from _in_running_text(line, names, "running text")


def _bullet_claim(line: str, names: MetricNames) -> Claim | None:
    """Return what a line of a list says, such as ``- task.metric: 0.9`` or ``- task.metric 90 %``."""
    mark = _BULLET.match(line)
    if mark is None:
        return None
    plain = _plain(line[mark.end() :].replace("`", " ").replace("*", " "))
    words = plain.split(" ")
    ways = [plain.rpartition(sign)[::2] for sign in (":", "=")]
    ways += [(" ".join(words[:-last]), " ".join(words[-last:])) for last in (1, 2)]
    for name, number in ways:
        if names.is_name(name.strip(_MARKUP)) and NUMBER.fullmatch(number.strip(_MARKUP)):
            return Claim(name.strip(_MARKUP), number.strip(_MARKUP))
    return None


def _in_running_text(line: str, names: MetricNames, where: str) -> Iterator[Claim]:
    """Yield a claim that nothing can be compared with if a line has a metric's name and what may be a rate."""
    plain = html.unescape(_TAG.sub(" ", line))
    rate = _RATE.search(plain)
    name = None if rate is None else names.first_in(plain)
    if rate is not None and name is not None:
        problem = f"not checked: it is in {where}; write it in a table or list, as 'task.metric: number'"
        yield Claim(name, rate[0], problem=problem)


def _cells(line: str) -> list[str]:
    inner = _QUOTE.sub("", line).strip()
    cells = _BAR.split(inner.removeprefix("|"))
    if inner.endswith("|") and not inner.endswith("\\|") and len(cells) > 1:
        cells.pop()
    return [_plain(cell) for cell in cells]


def _html_rows(table: str) -> list[list[str]]:
    """Return the cells of an HTML table; those of one inside of it are its own."""
    rows = [[_plain(cell) for cell in _HTML_CELL.findall(row)] for row in _HTML_ROW.split(table)[1:]]
    return [row for row in rows if row]


def _plain(cell: str) -> str:
    """Return a cell without markup."""
    return " ".join(html.unescape(_TAG.sub(" ", cell)).split()).strip(_MARKUP)


def _claims_of_table(table: Sequence[Sequence[str]], names: MetricNames) -> Iterator[Claim]:
    """Yield what a table about metrics says; a table of gates says what was required."""
    ruled = len(table) > 1 and not any(cell.strip(":- ") for cell in table[1])
    headed = ruled or (len(table) > 1 and _is_header(table[0], names))
    header = list(table[0]) if headed else []
    rows = table[2 if ruled else 1 :] if headed else table
    if _words(header[0] if header else "") == "gate":
        return
    columns = [place for place, cell in enumerate(header) if place and names.is_name(cell)]
    if columns:
        claims = [claim for row in rows for claim in _claims_of_columns(row, header, columns)]
    else:
        claims = [claim for row in rows for claim in _claims_of_row(row, header, names)]
    # a table that compares models has rows about others, which nobody can check here
    is_about_it = any(claim.model is not None and names.is_model(claim.model) for claim in claims)
    for claim in claims:
        if not is_about_it or claim.model is None or names.is_model(claim.model):
            yield claim


def _is_header(row: Sequence[str], names: MetricNames) -> bool:
    """Return whether the first row of a table without a rule below it is its header."""
    has_number = any(NUMBER.fullmatch(cell) for cell in row)
    names_metric = names.is_name(row[0]) and any(map(_has_digit, row[1:]))
    return not has_number and not names_metric


def _claims_of_columns(row: Sequence[str], header: Sequence[str], columns: Sequence[int]) -> Iterator[Claim]:
    """Yield what a row says where the metrics are the columns; its first cell names what it is about."""
    for place in columns:
        if place < len(row) and _has_digit(row[place]):
            yield Claim(header[place], row[place], model=row[0] or None, data=_cell(row, header, "data"))


def _claims_of_row(row: Sequence[str], header: Sequence[str], names: MetricNames) -> Iterator[Claim]:
    place = _place_of_name(row, header, names)
    if place is None:
        yield from _in_running_text(" | ".join(row), names, "a row that has more than its name")
        return
    name = row[place]
    if name.casefold() == _SCORE:
        name = f"{_cell(row, header, 'dimension') or ''}/score"
    numbers = {
        at: cell
        for at, cell in enumerate(row)
        if at != place and _has_digit(cell) and _words(header[at] if at < len(header) else "") not in _OTHER_COLUMNS
    }
    whole = {at: cell for at, cell in numbers.items() if NUMBER.fullmatch(cell)} or numbers
    if not whole:
        return
    about = Claim(
        name,
        ", ".join(whole.values()),
        model=_cell(row, header, "model"),
        data=_cell(row, header, "data"),
        reading=_cell(row, header, "reading"),
    )
    if about.data is not None:
        data, revision, part = parts_of_cell(about.data)
        about = replace(about, data=data, revision=revision, part=part)
    column = _column(header, list(whole), names)
    if column is not None:
        yield replace(about, value=whole[column])
    elif len(whole) > 1:
        problem = "the table has several numbers, and no column is named after the model of the run"
        yield replace(about, problem=problem)
    else:
        named = one_line(header[next(iter(whole))], 60)
        yield replace(about, problem=f"its column is {named!r}, which is not a name of the run's model")


def _has_digit(cell: str) -> bool:
    return any(char.isdigit() for char in cell)


def _cell(row: Sequence[str], header: Sequence[str], name: str) -> str | None:
    """Return what a row has in a column; None if there is none, or nothing in it."""
    for place, cell in enumerate(header):
        if cell.casefold() == name and place < len(row):
            return row[place] or None
    return None


def _place_of_name(row: Sequence[str], header: Sequence[str], names: MetricNames) -> int | None:
    """Return where a row names a metric; None if it does not."""
    for place, cell in enumerate(row):
        if names.is_name(cell):
            return place
    about = next((place for place, cell in enumerate(header) if cell.casefold().startswith("metric")), None)
    if about is None or about >= len(row) or not row[about].strip(":-"):
        return None
    return about


def _column(header: Sequence[str], places: Sequence[int], names: MetricNames) -> int | None:
    """Return the column whose numbers are about the run's model: the one that says so, or the only one of no other."""
    named = [place for place in places if place < len(header) and names.is_model(header[place])]
    if len(named) == 1:
        return named[0]
    if len(places) > 1:
        return None
    column = _words(header[places[0]]) if places[0] < len(header) else ""
    return places[0] if column in _NUMBER_COLUMNS else None
