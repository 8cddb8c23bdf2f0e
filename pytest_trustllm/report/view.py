"""The results document, arranged the way the page shows it: every choice of words that needs a decision."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pytest_trustllm.errors import one_line
from pytest_trustllm.report.pack import STATUSES, Packed

_ORDER = ("failed", "no_data", "inconclusive", "passed", "skipped")
_NO_RECORD = "no record: the test did not run to its end"


@dataclass(frozen=True, slots=True)
class Gate:
    """A line of the gates table.

    Attributes:
        id: Node id.
        outcome: ``passed``, ``failed``, ``skipped`` and so on.
        value: What was judged.
        bound: Such as ``at least 0.8``.
        reason: One line.
        link: Items behind it.
        warn: It did not pass, and its threshold file says that this only warns.
    """

    id: str
    outcome: str
    value: float | None
    bound: str
    reason: str
    link: str
    warn: bool = False

    @property
    def tone(self) -> str:
        """How the outcome is coloured; one that only warns does not fail the run."""
        return "quiet" if self.warn else {"passed": "good", "skipped": "quiet"}.get(self.outcome, "bad")


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
    interval: Sequence[float] | None
    scored: int
    expected: int
    higher_is_better: bool
    range: tuple[float, float]
    link: str

    @property
    def share(self) -> float | None:
        """Length of its bar in percent; None if the range is not that of a share."""
        return None if self.value is None or self.range != (0.0, 1.0) else 100 * min(1.0, max(0.0, self.value))


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension's card and section.

    Attributes:
        name: Such as ``safety``.
        score: The trust score.
        formula: How it came about, with the numbers.
        used: Headline metrics with a value.
        headlines: What the score is made of.
        others: Further metrics and sub-metrics.
        counts: (Status, samples), without zeros.
        link: Its items.
    """

    name: str
    score: float | None
    formula: str
    used: int
    headlines: Sequence[Metric]
    others: Sequence[Metric]
    counts: Sequence[tuple[str, int]]
    link: str

    @property
    def share(self) -> float | None:
        """Length of its bar in percent."""
        return None if self.score is None else 100 * self.score


@dataclass(frozen=True, slots=True)
class Reason:
    """Why samples have no score, most frequent first: (task, samples, its items)."""

    text: str
    count: int
    tasks: Sequence[tuple[str, int, str]]


def tasks_of(results: Mapping[str, Any]) -> list[str]:
    """Return the tasks in the order of the results."""
    return list(dict.fromkeys(_task(id_) for id_ in results["metrics"]))


def items_link(scope: str = "", status: str = "", query: str = "") -> str:
    """Return the address of a selection of items within the page."""
    pairs = (("in", scope), ("status", status), ("q", query))
    return "#items?" + "&".join(f"{k}={quote(v, safe='', errors='backslashreplace')}" for k, v in pairs if v)


def gates_of(results: Mapping[str, Any]) -> list[Gate]:
    """Return the gates, those that need attention first."""
    gates = [
        Gate(
            id=one_line(g["id"]),
            outcome=one_line(g["outcome"], 20),
            value=g["value"],
            bound=_bound(g),
            reason=one_line(g["reason"], 500),
            link=items_link(_scope(g)),
            warn=bool(g.get("warn")),
        )
        for g in results["gates"]
    ]
    rank = {outcome: i for i, outcome in enumerate(_ORDER)}
    return sorted(gates, key=lambda g: rank.get(g.outcome, 0))


def verdict_of(gates: Sequence[Gate]) -> Verdict:
    """Return what the gates say together."""
    bad = sum(g.tone == "bad" for g in gates)
    passed, skipped = (sum(g.outcome == outcome for g in gates) for outcome in ("passed", "skipped"))
    warned = sum(g.warn for g in gates)
    left = (f"; {warned} warned" if warned else "") + (f"; {skipped} skipped" if skipped else "")
    if not gates:
        return Verdict("quiet", "Not judged", "there are no gates")
    if bad:
        return Verdict("bad", "Failed", f"{bad} of {_gates(len(gates))} not met{left}")
    if not passed:
        return Verdict(
            "quiet",
            "Not judged",
            f"none of {_gates(len(gates))} met{left}" if warned else f"all {_gates(skipped)} skipped",
        )
    return Verdict("good", "Passed", f"{'all ' if passed > 1 and not left else ''}{_gates(passed)} met{left}")


def dimensions_of(results: Mapping[str, Any], packed: Packed) -> list[Dimension]:
    """Return the dimensions that had samples."""
    found = []
    for name, score in results["scores"].items():
        own = {id_: m for id_, m in results["metrics"].items() if id_.startswith(f"{name}/")}
        heads = {*score["of"], *score["missing"]}
        counts = [c for task, c in packed.counts.items() if task.startswith(f"{name}/")]
        sums = [(status, sum(c.get(status, 0) for c in counts)) for status in STATUSES]
        found.append(
            Dimension(
                name=one_line(name, 60),
                score=score["value"],
                formula=_formula(score, own),
                used=len(score["of"]),
                headlines=[_metric(id_, m) for id_, m in own.items() if id_ in heads],
                others=[_metric(id_, m) for id_, m in own.items() if id_ not in heads],
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


def card_of(results: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the run's card: titled groups of (what, which)."""
    run, usage = results["run"], results["usage"]
    known = {"model", "roles", "data", "packages", "generation", "task_versions", "command", "extra"}
    groups = [
        ("Run", [*_lines({k: v for k, v in run.items() if k not in known}), ("command", _command(run))]),
        ("Model", _lines(run.get("model", {}))),
        ("Roles", _lines(run.get("roles", {})) or [("none", "no further model took part")]),
        ("Usage", _lines({k: v for k, v in usage.items() if k != "roles"}) + _lines(usage.get("roles", {}))),
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
    facts = [
        f"{packed.total:,} {'sample' if packed.total == 1 else 'samples'}",
        f"data: {one_line(run.get('data', {}).get('source', 'unknown'), 80)}",
        f"seed {one_line(run.get('seed'), 20)}",
        one_line(run.get("started", ""), 40).replace("T", " ").replace("+00:00", " UTC"),
        f"{seconds:.0f} s" if isinstance(seconds, int | float) else "",
    ]
    return [fact for fact in facts if fact]


def number(value: float | None, range_: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return a number as short as a table wants it."""
    if value is None:
        return "–"
    return f"{value:.3f}" if max(map(abs, range_)) <= 1 else f"{value:,.6g}"


def _gates(count: int) -> str:
    return f"{count} {'gate' if count == 1 else 'gates'}"


def _bound(gate: Mapping[str, Any]) -> str:
    kind = str(gate.get("kind", "")).replace("_", " ")
    reading = " (parity)" if gate.get("scoring") == "parity" else ""
    return one_line(f"{kind} {gate['bound']!r}{reading}".strip(), 80)


def _scope(gate: Mapping[str, Any]) -> str:
    metric = str(gate.get("metric", ""))
    return metric.removesuffix("/score") if metric.endswith("/score") else _task(metric)


def _task(metric: str) -> str:
    """Return ``dimension/task`` of a metric id."""
    return metric.partition("{")[0].rpartition(".")[0]


def _metric(id_: str, m: Mapping[str, Any]) -> Metric:
    low, high = m.get("range") or (0.0, 1.0)
    return Metric(
        label=one_line(id_.partition("/")[2]),
        value=m["value"],
        parity=m["parity"],
        interval=m.get("ci"),
        scored=m["scored"],
        expected=m["expected"],
        higher_is_better=m["higher_is_better"],
        range=(float(low), float(high)),
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


def _data(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _lines({k: v for k, v in data.items() if k != "files"})
    files = data.get("files")
    yield from _lines(files) if isinstance(files, Mapping) else ()


def _lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one_line(key, 200), _plain(value)) for key, value in values.items() if value is not None]


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
