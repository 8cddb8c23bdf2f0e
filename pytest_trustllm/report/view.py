"""The results document, arranged the way the page shows it: every choice of words that needs a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import published
from pytest_trustllm.report.before import Before
from pytest_trustllm.report.figures import Strip, interval, items_link, number, range_of, strip, task_of, trail
from pytest_trustllm.report.pack import STATUSES, Packed

_NO_RECORD = "no record: the test did not run to its end"
_BRIEF = 3  # readings of a task that are named before its table is opened
_CELLS = 12  # most frequent readings of a task that are shown


@dataclass(frozen=True, slots=True)
class Metric:
    """A line of a dimension's table."""

    label: str
    value: float | None
    parity: float | None
    interval: str
    how: str
    scored: int
    expected: int
    higher_is_better: bool
    range: tuple[float, float]
    place: str
    before: float | None
    trail: Sequence[tuple[float, float]]
    strip: Strip | None
    link: str


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension's line in the overview and its section.

    Attributes:
        name: Such as ``safety``.
        score: The trust score.
        interval: Its interval, in words; empty if there is none.
        how: Confidence and method of the interval.
        formula: How it came about, with the numbers.
        used: Headline metrics with a value.
        place: Place among the published models on the metrics that both have; empty if there is none.
        median: Their median on these metrics.
        before: The score of the run that this one is compared with.
        trail: The scores of all runs beside each other, as a sparkline.
        strip: Score, interval and published models on a line.
        headlines: What the score is made of.
        others: Further metrics and sub-metrics.
        counts: (Status, samples), without zeros.
        link: Its items.
    """

    name: str
    score: float | None
    interval: str
    how: str
    formula: str
    used: int
    place: str
    median: float | None
    before: float | None
    trail: Sequence[tuple[float, float]]
    strip: Strip
    headlines: Sequence[Metric]
    others: Sequence[Metric]
    counts: Sequence[tuple[str, int]]
    link: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why samples have no score, most frequent first: (task, samples, its items)."""

    text: str
    count: int
    tasks: Sequence[tuple[str, int, str]]


@dataclass(frozen=True, slots=True)
class Stability:
    """How much the answers to the same question vary.

    Attributes:
        task: ``dimension/task``.
        samples: Samples with a score in every epoch.
        flip_rate: How likely two epochs of a sample disagree.
        all_of: (k, probability that k tries all meet the target).
        unstable: (Sample, epochs that met the target, epochs, its address), those that vary most.
        link: Its items.
    """

    task: str
    samples: int
    flip_rate: float
    all_of: Sequence[tuple[str, float]]
    unstable: Sequence[tuple[str, int, int, str]]
    link: str


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a task's scorer read, counted.

    Attributes:
        task: ``dimension/task``.
        rows: Names of the lines: the right label where it is known, else the status.
        columns: What was read.
        cells: Samples, per line and column.
        known: The lines are right labels.
        brief: The most frequent readings, in words.
        link: Its items.
    """

    task: str
    brief: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[int]]
    known: bool
    link: str


def tasks_of(results: Mapping[str, Any]) -> list[str]:
    """Return the tasks in the order of the results."""
    return list(dict.fromkeys(task_of(id_) for id_ in results["metrics"]))


def dimensions_of(results: Mapping[str, Any], packed: Packed, befores: Sequence[Before] = ()) -> list[Dimension]:
    """Return the dimensions that had samples, beside those of earlier runs."""
    found = []
    for name, score in results["scores"].items():
        own = {id_: m for id_, m in results["metrics"].items() if id_.startswith(f"{name}/")}
        heads = {*score["of"], *score["missing"]}
        counts = [c for task, c in packed.counts.items() if task.startswith(f"{name}/")]
        sums = [(status, sum(c.get(status, 0) for c in counts)) for status in STATUSES]
        board = published.dimension(results["metrics"], score["of"])
        found.append(
            Dimension(
                name=one_line(name, 60),
                score=score["value"],
                interval=interval(score.get("ci")),
                how=_how(score),
                formula=_formula(score, own),
                used=len(score["of"]),
                place=_place(board.place, len(board.others) + 1) if board is not None else "",
                median=board.median if board is not None else None,
                before=befores[0].scores.get(name) if befores else None,
                trail=trail([*(b.scores.get(name) for b in befores), score["value"]]),
                strip=strip(score["value"], score.get("ci"), (0.0, 1.0), ticks=board.others if board else ()),
                headlines=[_metric(id_, m, befores) for id_, m in own.items() if id_ in heads],
                others=[_metric(id_, m, befores) for id_, m in own.items() if id_ not in heads],
                counts=[(status, count) for status, count in sums if count],
                link=items_link(name),
            )
        )
    return found


def reasons_of(results: Mapping[str, Any], packed: Packed) -> list[Reason]:
    """Return why samples have no score, and those whose test left no record."""
    by_reason: dict[str, dict[str, int]] = {}
    for (task, reason), count in packed.reasons.items():
        by_reason.setdefault(reason, {})[task] = count
    for task, count in _without_record(results, packed).items():
        by_reason.setdefault(_NO_RECORD, {})[task] = count
    found = [
        Reason(
            one_line(reason, 500),
            sum(tasks.values()),
            [(one_line(t), n, items_link(t, query=reason if reason != _NO_RECORD else "")) for t, n in tasks.items()],
        )
        for reason, tasks in by_reason.items()
    ]
    return sorted(found, key=lambda r: (-r.count, r.text))


def breakdowns_of(packed: Packed) -> list[Breakdown]:
    """Return what the scorers read, per task: a confusion table where the right label is known."""
    found = []
    for task, counts in packed.readings.items():
        known = any(gold is not None for gold, _, _ in counts)
        cells: dict[str, dict[str, int]] = {}
        columns: dict[str, int] = {}
        for (gold, answer, status), count in counts.items():
            row = status if not known else "unknown" if gold is None else gold
            read = answer if answer is not None else "nothing read"
            columns[read] = columns.get(read, 0) + count
            line = cells.setdefault(row, {})
            line[read] = line.get(read, 0) + count
        shown = sorted(columns, key=lambda c: -columns[c])
        if len(shown) > _CELLS:
            shown = shown[: _CELLS - 1]
        rows = sorted(cells) if known else [s for s in (*STATUSES, *sorted(cells.keys() - {*STATUSES})) if s in cells]
        rest = len(columns) - len(shown)
        table = [[cells[r].get(c, 0) for c in shown] for r in rows]
        if rest:
            table = [[*line, sum(cells[r].values()) - sum(line)] for r, line in zip(rows, table, strict=True)]
        names = [one_line(c, 40) for c in shown] + ([f"{rest} others"] if rest else [])
        rows = [one_line(r, 40) for r in rows]
        sums = [sum(line[at] for line in table) for at in range(len(names))]
        brief = " · ".join(f"{n:,} × {name}" for n, name in list(zip(sums, names, strict=True))[:_BRIEF])
        found.append(Breakdown(one_line(task, 120), brief, rows, names, table, known, items_link(task)))
    return found


def stability_of(results: Mapping[str, Any]) -> list[Stability]:
    """Return how much answers vary, the tasks that vary most first; nothing if every sample was asked once."""
    found = [
        Stability(
            task=one_line(task, 120),
            samples=entry["samples"],
            flip_rate=entry["flip_rate"],
            all_of=[(one_line(k, 8), value) for k, value in entry["pass^k"].items()],
            unstable=[
                (one_line(u["id"], 20), u["met"], u["epochs"], items_link(item=f"{task}/{u['id']}"))
                for u in entry["unstable"]
            ],
            link=items_link(task),
        )
        for task, entry in ((results.get("stability") or {}).get("tasks") or {}).items()
    ]
    return sorted(found, key=lambda s: (-s.flip_rate, s.task))


def _how(number: Mapping[str, Any]) -> str:
    sure, method = number.get("confidence"), number.get("method")
    level = f"{100 * sure:.4g} % interval" if isinstance(sure, int | float) else "interval"
    return one_line(f"{level}, {method}" if method else level, 200)


def _place(position: int, of: int) -> str:
    return f"{position} of {of}"


def _metric(id_: str, m: Mapping[str, Any], befores: Sequence[Before]) -> Metric:
    range_, rank = range_of(m), m.get("rank")
    drawn = range_[1] - range_[0] <= 2  # shares and correlations; a count of samples has no line
    return Metric(
        label=one_line(id_.partition("/")[2]),
        value=m["value"],
        parity=m["parity"],
        interval=interval(m.get("ci"), range_),
        how=_how(m),
        scored=m["scored"],
        expected=m["expected"],
        higher_is_better=m["higher_is_better"],
        range=range_,
        place=_place(rank["position"], rank["of"]) if rank else "",
        before=befores[0].metrics.get(id_) if befores else None,
        trail=trail([*(b.metrics.get(id_) for b in befores), m["value"]]),
        strip=strip(m["value"], m.get("ci"), range_, ticks=published.values(id_)) if drawn else None,
        link=items_link(task_of(id_)),
    )


def _formula(score: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    terms = []
    for id_ in score["of"]:
        value, name = metrics[id_]["value"], one_line(id_.partition("/")[2])
        turned = f"{number(value)}" if metrics[id_]["higher_is_better"] else f"1\u00a0−\u00a0{number(value)}"
        terms.append(f"{name} ({turned})")
    missing = [one_line(id_.partition("/")[2]) for id_ in score["missing"]]
    without = f" Without a value and left out: {', '.join(missing)}." if missing else ""
    if not terms:
        return f"No headline metric has a value, so there is no trust score.{without}"
    return f"Mean of the headline metrics, each between 0 and 1, higher is better: {', '.join(terms)}.{without}"


def _without_record(results: Mapping[str, Any], packed: Packed) -> dict[str, int]:
    """Return task -> samples that were planned and are not among the records."""
    known: dict[str, int] = {}
    for (task, _), count in packed.reasons.items():
        known[task] = known.get(task, 0) + count
    found = {}
    for score in results["scores"].values():
        for id_ in (*score["of"], *score["missing"]):
            left = results["metrics"][id_]["unscored"] - known.get(task_of(id_), 0)
            if left > 0:
                found[task_of(id_)] = left
    return found
