"""The results document, arranged the way the page shows it: every choice of words that needs a decision."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import published
from pytest_trustllm.report.before import Before
from pytest_trustllm.report.pack import STATUSES, Packed

_ORDER = ("failed", "no_data", "inconclusive", "passed", "skipped")
_NO_RECORD = "no record: the test did not run to its end"
_TONES = {"passed": "good", "skipped": "quiet"}
_BRIEF = 3  # readings of a task that are named before its table is opened
_CELLS = 12  # most frequent readings of a task that are shown


@dataclass(frozen=True, slots=True)
class Strip:
    """A number line: everything in percent of its length.

    Attributes:
        value: Where the value stands; None if there is none.
        low: Start of the interval.
        high: Its end.
        bound: Where a threshold stands.
        ticks: Where the published models stand.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    ticks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """A line of the gates table.

    Attributes:
        id: Node id.
        metric: What it is about, without the dimension.
        outcome: ``passed``, ``failed``, ``skipped`` and so on.
        tone: How the outcome is coloured.
        value: What was judged.
        interval: Its interval, in words; empty if there is none.
        bound: Such as ``at least 0.8``.
        margin: How far the value is on the good side of the bound; negative on the other.
        reason: One line.
        why: The same to be read after the metric's name.
        change: What would change the outcome, in one sentence; empty if that cannot be told.
        strip: Value, interval and bound on a line; None where the range is not known.
        link: Items behind it.
        line: Where it stands in its threshold file, if that is known.
    """

    id: str
    metric: str
    outcome: str
    tone: str
    value: float | None
    interval: str
    bound: str
    margin: float | None
    reason: str
    why: str
    change: str
    strip: Strip | None
    link: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first thing a reader sees: a word, and a sentence that gives its reason."""

    tone: str
    word: str
    sentence: str


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
    return list(dict.fromkeys(_task(id_) for id_ in results["metrics"]))


def items_link(scope: str = "", status: str = "", query: str = "", change: str = "", item: str = "") -> str:
    """Return the address of a selection of items within the page."""
    pairs = (("in", scope), ("status", status), ("change", change), ("q", query), ("item", item))
    return "#items?" + "&".join(f"{k}={quote(v, safe='', errors='backslashreplace')}" for k, v in pairs if v)


def gates_of(results: Mapping[str, Any]) -> list[Gate]:
    """Return the gates, those that need attention first."""
    rank = {outcome: i for i, outcome in enumerate(_ORDER)}
    return sorted((_gate(g, results) for g in results["gates"]), key=lambda g: rank.get(g.outcome, 0))


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return what the gates say together."""
    bad = sum(g.tone == "bad" for g in gates)
    passed, skipped = (sum(g.outcome == outcome for g in gates) for outcome in ("passed", "skipped"))
    warned = sum(g.tone == "warn" for g in gates)
    left = (f"; {warned} warned" if warned else "") + (f"; {skipped} skipped" if skipped else "")
    if not gates:
        return Verdict("quiet", "Not judged", "there are no gates")
    if bad:
        return Verdict("bad", "Failed", f"{bad} of {_gates(len(gates))} not met{left}")
    if not passed:
        why = f"none of {_gates(len(gates))} met{left}" if warned else f"all {_gates(skipped)} skipped"
        return Verdict("quiet", "Not judged", why)
    return Verdict("good", "Passed", f"{'all ' if passed > 1 and not left else ''}{_gates(passed)} met{left}")


def dimensions_of(results: Mapping[str, Any], packed: Packed, before: Before | None = None) -> list[Dimension]:
    """Return the dimensions that had samples."""
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
                before=before.scores.get(name) if before is not None else None,
                strip=_strip(score["value"], score.get("ci"), (0.0, 1.0), ticks=board.others if board else ()),
                headlines=[_metric(id_, m, before) for id_, m in own.items() if id_ in heads],
                others=[_metric(id_, m, before) for id_, m in own.items() if id_ not in heads],
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


def card_of(results: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the run's card: titled groups of (what, which)."""
    run, usage = results["run"], results["usage"]
    known = {"model", "roles", "data", "packages", "generation", "task_versions", "command", "extra", "nodes"}
    groups = [
        ("Run", [*_lines({k: v for k, v in run.items() if k not in known}), ("command", _command(run))]),
        ("Model", _lines(run.get("model", {}))),
        ("Roles", _lines(run.get("roles", {})) or [("none", "no further model took part")]),
        ("Usage", _usage(usage)),
        ("Data", list(_data(run.get("data", {})))),
        ("Packages", _lines(run.get("packages", {}))),
        ("Task versions", _lines(run.get("task_versions", {}))),
        ("Generation", _lines(run.get("generation", {}))),
        ("Further facts", _lines(run.get("extra", {}))),
    ]
    return [(title, lines) for title, lines in groups if lines]


def facts_of(results: Mapping[str, Any], packed: Packed) -> list[str]:
    """Return the few facts that stand under the title."""
    run = results["run"]
    seconds = run.get("seconds")
    cost = results["usage"].get("cost_usd")
    revision = run.get("model", {}).get("revision")
    facts = [
        f"{packed.total:,} {'sample' if packed.total == 1 else 'samples'}",
        f"data: {one_line(run.get('data', {}).get('source', 'unknown'), 80)}",
        f"revision {one_line(revision, 16)}" if revision else "",
        f"seed {one_line(run.get('seed'), 20)}",
        one_line(run.get("started", ""), 40).replace("T", " ").replace("+00:00", " UTC"),
        f"{seconds:.0f} s" if isinstance(seconds, int | float) else "",
        f"{cost:,.2f} USD" if isinstance(cost, int | float) else "",
    ]
    return [fact for fact in facts if fact]


def number(value: float | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return a number as short as a table wants it."""
    if value is None:
        return "–"
    return f"{value:.3f}" if max(map(abs, range_)) <= 1 else f"{value:,.6g}"


def signed(value: float) -> str:
    """Return a difference with its sign, which is a minus sign and no hyphen."""
    return "±0" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def interval(ci: Sequence[float] | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return an interval in words, or nothing."""
    return f"{number(ci[0], range_)} to {number(ci[1], range_)}" if ci else ""


def _how(number: Mapping[str, Any]) -> str:
    sure, method = number.get("confidence"), number.get("method")
    level = f"{100 * sure:.4g} % interval" if isinstance(sure, int | float) else "interval"
    return one_line(f"{level}, {method}" if method else level, 200)


def _gates(count: int) -> str:
    return f"{count} {'gate' if count == 1 else 'gates'}"


def _gate(g: Mapping[str, Any], results: Mapping[str, Any]) -> Gate:
    metric = _judged(g, results)
    value, kind, bound = g["value"], g.get("kind"), g["bound"]
    ci = g.get("ci") or (metric.get("ci") if g.get("scoring") != "parity" else None)
    comparable = value is not None and kind in ("at_least", "at_most")
    margin = None if value is None else value - bound if kind == "at_least" else bound - value
    range_ = _range(metric)
    about, reason = _about(g), one_line(g["reason"], 500)
    return Gate(
        id=one_line(g["id"]),
        metric=about,
        outcome=one_line(g["outcome"], 20),
        tone=_tone(g),
        value=value,
        interval=interval(ci, range_),
        bound=_bound(g),
        margin=margin,
        reason=reason,
        why=reason.removeprefix(about).removeprefix(":").strip() if about else reason,
        change=_change(g, metric, margin, ci),
        strip=_strip(value, ci, range_, bound=bound) if comparable and metric else None,
        link=items_link(_scope(g)),
        line=g.get("line"),
    )


def _tone(gate: Mapping[str, Any]) -> str:
    if gate.get("warn"):
        return "warn"
    return _TONES.get(gate["outcome"], "bad")


def _judged(gate: Mapping[str, Any], results: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metric or trust score that a gate is about; empty if the document has none."""
    id_ = str(gate.get("metric", ""))
    if id_.endswith("/score"):
        score: Mapping[str, Any] = results["scores"].get(id_.removesuffix("/score"), {})
        return score
    metric: Mapping[str, Any] = results["metrics"].get(id_, {})
    return metric


def _change(
    gate: Mapping[str, Any], metric: Mapping[str, Any], margin: float | None, ci: Sequence[float] | None
) -> str:
    """Return what would change the outcome: it is counted where the value is a plain share of samples."""
    outcome, reason = gate["outcome"], str(gate["reason"])
    if outcome == "skipped":
        return "It is judged when all its samples are selected." if reason.startswith("partial") else ""
    if isinstance(gate.get("lacking"), int):
        more = f"{gate['lacking']:,} more {'sample has' if gate['lacking'] == 1 else 'samples have'}"
        return f"The value counts once {more} a score."
    if outcome == "no_data" or margin is None:
        return ""
    if outcome == "inconclusive":
        return _decided(gate, margin, ci)
    if gate.get("kind") not in ("at_least", "at_most") or (outcome == "passed") != (margin >= 0):
        return ""  # no such bound, or something else than the bound decided
    word = "Fails" if outcome == "passed" else "Passes"
    turns = _turns(gate, metric, margin)
    if turns:
        return f"{word} if {turns} of {metric['scored']:,} samples {'turns' if turns == '1' else 'turn'}."
    way = "falls" if (gate.get("kind") == "at_least") == (outcome == "passed") else "rises"
    return f"{word} if the value {way} by {'more than' if word == 'Fails' else 'at least'} {abs(margin):.3g}."


def _decided(gate: Mapping[str, Any], margin: float, ci: Sequence[float] | None) -> str:
    """Return how many more samples would settle an interval that contains its bound, if the value stays."""
    further = gate.get("further")
    if isinstance(further, int):
        return f"About {further:,} further samples would decide it, if the value stays."
    if not ci or not margin:
        return "More samples would decide it."
    times = ((ci[1] - ci[0]) / 2 / abs(margin)) ** 2
    return f"About {max(2, math.ceil(times)):,} times as many samples would decide it, if the value stays."


def _turns(gate: Mapping[str, Any], metric: Mapping[str, Any], margin: float) -> str:
    """Return how many samples decide, where the value is the share of samples that it looks like."""
    scored, value = metric.get("scored"), gate["value"]
    if not scored or _range(metric) != (0.0, 1.0) or abs(value * scored - round(value * scored)) > 1e-6 * scored:
        return ""
    count = margin * scored
    return f"{math.floor(count + 1e-9) + 1 if margin >= 0 else math.ceil(-count - 1e-9):,}"


def _strip(
    value: float | None,
    ci: Sequence[float] | None,
    range_: tuple[float, float],
    *,
    bound: float | None = None,
    ticks: Sequence[float] = (),
) -> Strip:
    low, high = range_

    def at(number: float) -> float:
        return round(100 * min(1.0, max(0.0, (number - low) / (high - low))), 2)

    return Strip(
        value=None if value is None else at(value),
        low=at(ci[0]) if ci else None,
        high=at(ci[1]) if ci else None,
        bound=None if bound is None else at(bound),
        ticks=[at(t) for t in ticks],
    )


def _bound(gate: Mapping[str, Any]) -> str:
    kind = str(gate.get("kind", "")).replace("_", " ")
    reading = " (parity)" if gate.get("scoring") == "parity" else ""
    sure = gate.get("confidence")
    certain = f", {100 * sure:.4g} % sure" if isinstance(sure, int | float) else ""
    return one_line(f"{kind} {gate['bound']!r}{reading}{certain}".strip(), 80)


def _about(gate: Mapping[str, Any]) -> str:
    return one_line(str(gate.get("metric", "")).partition("/")[2])


def _scope(gate: Mapping[str, Any]) -> str:
    metric = str(gate.get("metric", ""))
    return metric.removesuffix("/score") if metric.endswith("/score") else _task(metric)


def _task(metric: str) -> str:
    """Return ``dimension/task`` of a metric id."""
    return metric.partition("{")[0].rpartition(".")[0]


def _range(metric: Mapping[str, Any]) -> tuple[float, float]:
    low, high = metric.get("range") or (0.0, 1.0)
    return float(low), float(high)


def _place(position: int, of: int) -> str:
    return f"{position} of {of}"


def _metric(id_: str, m: Mapping[str, Any], before: Before | None) -> Metric:
    range_, rank = _range(m), m.get("rank")
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
        before=before.metrics.get(id_) if before is not None else None,
        strip=_strip(m["value"], m.get("ci"), range_, ticks=published.values(id_)) if drawn else None,
        link=items_link(_task(id_)),
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
            left = results["metrics"][id_]["unscored"] - known.get(_task(id_), 0)
            if left > 0:
                found[_task(id_)] = left
    return found


def _command(run: Mapping[str, Any]) -> str:
    return one_line(shlex.join(["pytest", *(str(a) for a in run.get("command", ()))]), 2000)


def _usage(usage: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = {k: f"{v:,}" if isinstance(v, int) else v for k, v in usage.items() if k != "roles"}
    if known.get("cost_usd") is None:
        known["cost_usd"] = "not known: the model has no price in a models file"
    return _lines(known) + _lines(usage.get("roles", {}))


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _lines({k: v for k, v in data.items() if k != "files"})
    files = data.get("files")
    yield from _lines(files) if isinstance(files, Mapping) else ()


def _lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one_line(key, 200), _plain(value)) for key, value in values.items() if value not in (None, "", [], {})]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(k, 100)}: {_plain(v)}" for k, v in value.items() if v not in (None, [], {})) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "–"
    if isinstance(value, str):
        return one_line(value, 2000)
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(json.dumps(value, default=str), 2000)
