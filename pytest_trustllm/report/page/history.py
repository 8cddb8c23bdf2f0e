"""Runs over time as a page: one HTML file without scripts."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import GateEntry, HistoryEntry, Results
from pytest_trustllm.report import formatting
from pytest_trustllm.report.gate_verdicts import tone_of
from pytest_trustllm.results.history_changes import Change, Event, tested_metrics, without_revision

_TEMPLATES = Path(__file__).parents[1] / "templates"
_WIDTH = 720.0
_LEFT, _RIGHT = 44.0, 12.0
_TOP, _BOTTOM = 22.0, 18.0
_HEIGHT = 132.0
_SIGNS = {"good": "✓", "bad": "✕", "warn": "!", "quiet": "·"}
_SAMPLES = 12


@dataclass(frozen=True, slots=True)
class Point:
    """A number in one run, in the coordinates of its chart.

    Attributes:
        whole: Whether all samples were selected; other numbers are drawn hollow.
        title: For people, in words.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    whole: bool
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line between two runs.

    Attributes:
        moved: It marks a change of the scores, not of a setting.
        label: Beside its upper end.
        title: For people, in words.
    """

    x: float
    moved: bool
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over the runs.

    Attributes:
        name: Its id.
        newest: Its newest value, in words.
        least: Least value of the axis; ``most``: the greatest.
        levels: Mean between two changes: start, end and height.
        summary: What is to be seen, in words.
    """

    name: str
    newest: str
    least: str
    most: str
    points: Sequence[Point]
    lines: Sequence[Line]
    levels: Sequence[tuple[float, float, float]]
    summary: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A gate in one run: colour, sign and words; all empty if the run does not have it."""

    tone: str
    sign: str
    title: str


@dataclass(frozen=True, slots=True)
class RunLine:
    """A row of the table of runs."""

    number: int
    started: str
    id: str
    commit: str
    branch: str
    model: str
    judge: str
    selection: str
    report: str


def render(
    entries: Sequence[HistoryEntry], metrics: Sequence[str], changes: Sequence[Change], events: Sequence[Event]
) -> str:
    """Return the page.

    Args:
        entries: Runs in their order.
        metrics: Ids of metrics and trust scores to draw.
        changes: In the scores, from :func:`~pytest_trustllm.results.history_changes.changes_of`.
        events: Changes of settings, from :func:`~pytest_trustllm.results.history_changes.events_of`.
    """
    style = Markup((_TEMPLATES / "history.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    newest = entries[-1]["results"]
    tested = tested_metrics(entries)
    return environment.get_template("history.html.j2").render(
        title=f"{one_line(newest['run']['model']['name'], 80)} over {formatting.counted(len(entries), 'run')}",
        first=entries[0]["results"]["run"]["started"][:10],
        last=newest["run"]["started"][:10],
        charts=[_chart(entries, id_, changes, events, tested=id_ in tested) for id_ in metrics],
        changes=[_change_words(change, entries) for change in changes],
        unknown=_unknown_revisions(entries),
        events=[_event_words(event) for event in events],
        gates=_gate_rows(entries),
        runs=[_run_line(number, entry) for number, entry in enumerate(entries, 1)],
        width=_WIDTH,
        height=_HEIGHT,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )


# --- charts -----------------------------------------------------------------------------------------------------------


def _x(number: int, count: int) -> float:
    """Return where a run is; the only run is in the middle."""
    share = 0.5 if count == 1 else number / (count - 1)
    return round(_LEFT + 8 + share * (_WIDTH - _LEFT - _RIGHT - 16), 1)


def _between(number: int, count: int) -> float:
    """Return where the line before a run is."""
    return round((_x(number - 1, count) + _x(number, count)) / 2, 1)


def _y(value: float, range_: tuple[float, float]) -> float:
    least, most = range_
    share = min(1.0, max(0.0, (value - least) / (most - least)))
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _chart(
    entries: Sequence[HistoryEntry], id_: str, changes: Sequence[Change], events: Sequence[Event], *, tested: bool
) -> Chart:
    count = len(entries)
    numbers = [_number(entry["results"], id_) for entry in entries]
    range_ = next((number.range for number in reversed(numbers) if number is not None), (0.0, 1.0))
    points = []
    for place, number in enumerate(numbers):
        if number is not None and number.value is not None:
            points.append(_point(place, count, number, number.value, range_))
    mine = [change for change in changes if change.metric == id_]
    lines = [_event_line(event, count) for event in events if _concerns(event, id_)]
    lines += [_change_line(change, count) for change in mine]
    newest = numbers[-1]
    words = [f"run {change.run + 1}: {_from_to(change)}" for change in mine]
    return Chart(
        name=one_line(id_, 120),
        newest="no value" if newest is None else formatting.number(newest.value, range_),
        least=formatting.number(range_[0], range_).removesuffix(".000"),
        most=formatting.number(range_[1], range_).removesuffix(".000"),
        points=points,
        lines=lines,
        levels=_levels(numbers, mine, range_),
        summary=f"moved in {', '.join(words)}" if words else _unmoved(numbers, tested=tested),
    )


def _unmoved(numbers: Sequence[_Number | None], *, tested: bool) -> str:
    """Return what is known of a number in which no change was found."""
    if all(number is None or number.value is None for number in numbers):
        return "no values"
    return "no change beyond chance" if tested else "not tested for changes"


@dataclass(frozen=True, slots=True)
class _Number:
    value: float | None
    ci: Sequence[float] | None
    range: tuple[float, float]
    whole: bool
    counts: str


def _number(results: Results, id_: str) -> _Number | None:
    if id_.endswith("/score"):
        score = results["scores"].get(id_.removesuffix("/score"))
        if score is None:
            return None
        whole = results["run"]["selection"] == "full"
        return _Number(score["value"], score["ci"], (0.0, 1.0), whole, f"{len(score['of'])} metrics")
    metric = results["metrics"].get(id_)
    if metric is None:
        return None
    coverage = results["coverage"].get(formatting.task_of(id_))
    whole = coverage is None or not coverage["deselected"]
    counts = f"{metric['scored']:,} of {metric['expected']:,} samples scored"
    return _Number(metric["value"], metric["ci"], formatting.range_of(metric), whole, counts)


def _point(place: int, count: int, number: _Number, value: float, range_: tuple[float, float]) -> Point:
    low, high = (None, None) if number.ci is None else (_y(number.ci[0], range_), _y(number.ci[1], range_))
    interval = formatting.interval(number.ci, range_)
    words = f"run {place + 1}: {formatting.number(value, range_)}"
    if interval:
        words += f", interval {interval}"
    title = f"{words}; {number.counts}"
    return Point(_x(place, count), _y(value, range_), low, high, number.whole, title)


def _concerns(event: Event, id_: str) -> bool:
    """Return whether an event may explain a change of a number."""
    if event.kind == "thresholds":
        return False
    return event.task is None or event.task == formatting.task_of(id_)


def _event_line(event: Event, count: int) -> Line:
    return Line(_between(event.run, count), False, event.kind, f"run {event.run + 1}: other {event.kind}: {event.text}")


def _change_line(change: Change, count: int) -> Line:
    title = f"run {change.run + 1}: {_from_to(change)}, p = {change.p:.2g}"
    return Line(_between(change.run, count), True, f"▼ run {change.run + 1}", title)


def _from_to(change: Change) -> str:
    return f"{formatting.number(change.before)} to {formatting.number(change.after)}"


def _levels(
    numbers: Sequence[_Number | None], changes: Sequence[Change], range_: tuple[float, float]
) -> list[tuple[float, float, float]]:
    """Return the mean of the runs between two changes, as horizontal lines."""
    count = len(numbers)
    bounds = [0, *(change.run for change in changes), count]
    levels = []
    for start, end in itertools.pairwise(bounds):
        values = [number.value for number in numbers[start:end] if number is not None and number.value is not None]
        if values:
            levels.append((_x(start, count), _x(end - 1, count), _y(sum(values) / len(values), range_)))
    return levels


# --- words ------------------------------------------------------------------------------------------------------------


def _unknown_revisions(entries: Sequence[HistoryEntry]) -> list[tuple[str, str]]:
    """Return ``model`` and roles without a revision, and in which runs: nobody can draw a line where they changed."""
    runs: dict[str, list[int]] = {}
    for number, entry in enumerate(entries, 1):
        for name in without_revision(entry["results"]):
            runs.setdefault(name, []).append(number)
    return [(one_line(name, 30), _numbered(numbers, len(entries))) for name, numbers in runs.items()]


def _numbered(numbers: Sequence[int], count: int) -> str:
    """Return runs in words: ``all runs``, ``run 3``, ``runs 1 to 4, 7``."""
    if len(numbers) == count:
        return "all runs"
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][-1] + 1:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in stretches]
    return f"run{'s' if len(numbers) > 1 else ''} {', '.join(words)}"


def _change_words(change: Change, entries: Sequence[HistoryEntry]) -> dict[str, object]:
    shown = [f"{one_line(sample.id, 60)} ({sample.before:.3g} to {sample.after:.3g})" for sample in change.samples]
    if len(shown) > _SAMPLES:
        shown[_SAMPLES:] = [f"and {len(shown) - _SAMPLES} more"]
    return {
        "run": change.run + 1,
        "metric": one_line(change.metric, 120),
        "numbers": _from_to(change),
        "p": f"{change.p:.2g}",
        "moved": len(change.samples),
        "compared": change.compared,
        "samples": shown,
        "causes": [f"{cause.kind}: {cause.text}" for cause in change.causes],
        "unknown": [one_line(name, 30) for name in without_revision(entries[change.run]["results"])],
    }


def _event_words(event: Event) -> dict[str, object]:
    return {"run": event.run + 1, "kind": event.kind, "text": event.text}


def _gate_rows(entries: Sequence[HistoryEntry]) -> list[tuple[str, list[Cell]]]:
    """Return every gate of any run with its outcome in each."""
    by_run: list[dict[str, GateEntry]] = []
    for entry in entries:
        by_run.append({gate["id"]: gate for gate in entry["results"]["gates"]})
    rows = []
    for id_ in dict.fromkeys(id_ for gates in by_run for id_ in gates):
        cells = [_cell(number, gates.get(id_)) for number, gates in enumerate(by_run, 1)]
        gate = next(gates[id_] for gates in by_run if id_ in gates)
        rows.append((one_line(f"{gate['metric']} {gate['kind'].replace('_', ' ')}", 120), cells))
    return rows


def _cell(number: int, gate: GateEntry | None) -> Cell:
    if gate is None:
        return Cell("", "", f"run {number}: not among its gates")
    tone = tone_of(gate)
    value = formatting.number(gate["value"])
    return Cell(tone, _SIGNS[tone], f"run {number}: {gate['outcome'].replace('_', ' ')}, {value}")


def _run_line(number: int, entry: HistoryEntry) -> RunLine:
    run = entry["results"]["run"]
    commit = run.get("commit")
    judge = run["roles"].get("judge")
    return RunLine(
        number=number,
        started=run["started"][:16].replace("T", " "),
        id=run["id"][:12],
        commit="" if commit is None else one_line(commit["id"][:9]),
        branch="" if commit is None else one_line(commit["branch"] or "", 80),
        model=one_line(run["model"].get("revision") or f"{run['model']['name']}, no revision", 40),
        judge="" if judge is None else one_line(judge["name"], 40),
        selection=run["selection"],
        # quoted with its colons: an address of another scheme cannot come out of it
        report="" if entry["report"] is None else quote(entry["report"], safe="/", errors="backslashreplace"),
    )
