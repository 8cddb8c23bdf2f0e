"""The terminal summary: one screen, 80 columns, no colour needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pytest_trustllm.formats import (
    BaselineEntry,
    BaseModelEntry,
    BudgetEntry,
    EstimatedCost,
    GateEntry,
    LimitsEntry,
    MetricEntry,
    Results,
    UsageEntry,
)
from pytest_trustllm.report import caveats
from pytest_trustllm.report.lines import WIDTH, cut, flat, fold, hanging, listed, paragraph, width
from pytest_trustllm.results.assistance import NO_SEQUENCE, NOT_RANDOM
from pytest_trustllm.types import REASONING_CUT

_SCREEN = 30
_REASONS = 4
_REASON_LINES = 3
_CAVEAT_LINES = 3
_LONGEST_REASON = 200
_VARYING = 6
_ASSISTED = 6
_LEAST_GATES = 3
"""At least so many gates that did not pass are shown, even if the screen is full."""
_MINUTES = 120
"""A time of this many seconds or more is given in minutes."""


def summary(results: Results, reasons: Sequence[tuple[str, str, int]]) -> list[str]:
    """Return the lines that a person reads first.

    Args:
        results: The results document.
        reasons: (task, why, how many) of the unscored samples.
    """
    lines: list[str] = []
    if results["run"]["selection"] == "partial":
        lines.append("PARTIAL SELECTION: only some samples ran; every number covers only those.")
    lines += _dimensions(results)
    lines += _unscored(reasons)
    lines += _stability(results)
    lines += _caveats(results)
    lines += _budget(results["run"].get("budget"))
    lines += _cost(results["usage"])
    lines += baseline_lines(results.get("baseline"))
    lines += _base_lines(results.get("base"))
    unlicensed = results["run"].get("unlicensed", {})
    if unlicensed:
        lines.append(
            listed("left out by --trust-licences: ", [f"{flat(t, 40)} ({flat(x, 20)})" for t, x in unlicensed.items()])
        )
    lines += _assisted(results)
    return lines + _gates(results, _SCREEN - len(lines))


def _dimensions(results: Results) -> Iterator[str]:
    scores = results["scores"]
    if not scores:
        yield "No sample ran."
        return
    names = {dimension: flat(dimension, 30) for dimension in scores}
    widest = max(width(name) for name in ["dimension", *names.values()])
    has_intervals = any(score["ci"] is not None for score in scores.values())
    interval_head = "interval" if has_intervals else ""
    yield _row(widest, "dimension", "score", interval_head, "metrics", "scored", "unscored")
    inverted = False
    for dimension, score in scores.items():
        metrics = _headlines(results, dimension)
        between = _between(score["ci"]) if has_intervals else ""
        used = f"{len(score['of'])}/{len(metrics)}"
        scored = 0
        unscored = 0
        headlines = []
        for id_, metric in metrics.items():
            scored += metric["scored"]
            unscored += metric["unscored"]
            headlines.append(_headline(id_, metric))
            if not metric["higher_is_better"]:
                inverted = True
        yield _row(widest, names[dimension], _number(score["value"]), between, used, str(scored), str(unscored))
        yield from fold(headlines, "  ", "  ")
    for note in caveats.mixed(results):
        yield from fold(f"WARNING: {note}".split(" "), "  ", " ")
    explanation = "score: mean of the headline metrics"
    if inverted:
        explanation += ", those with * (lower is better) inverted"
    yield explanation


def _row(widest: int, name: str, score: str, between: str, used: str, scored: str, unscored: str) -> str:
    """Return a line of the table; ``between`` is empty where no dimension has an interval."""
    padding = " " * (widest - width(name))  # not ljust: a wide character takes two columns
    column = f"{between:>14}" if between else ""
    return f"{name}{padding}{score:>8}{column}{used:>9}{scored:>10}{unscored:>10}"


def _headlines(results: Results, dimension: str) -> dict[str, MetricEntry]:
    score = results["scores"][dimension]
    ids = {*score["of"], *score["missing"]}
    return {id_: metric for id_, metric in results["metrics"].items() if id_ in ids}


def _headline(id_: str, metric: MetricEntry) -> str:
    task = flat(id_.partition("/")[2].rpartition(".")[0], 40)
    mark = "" if metric["higher_is_better"] else "*"
    return f"{task} {_number(metric['value'])}{mark}"


def _between(ci: LimitsEntry | None) -> str:
    if ci is None:
        return "-"
    return f"{_number(ci[0])}-{_number(ci[1])}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}"


def _unscored(reasons: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    by_reason: dict[str, dict[str, int]] = {}
    for task, reason, count in reasons:
        tasks = by_reason.setdefault(reason or "no reason given", {})
        tasks[task] = tasks.get(task, 0) + count
    if not by_reason:
        return
    yield "unscored (counted, never zero):"
    # stable: reasons of as many samples stay in the order of the run
    ordered = sorted(by_reason.items(), key=lambda item: -sum(item[1].values()))
    for reason, tasks in ordered[:_REASONS]:
        yield from _reason(reason, tasks)
    others = ordered[_REASONS:]
    if others:
        samples = sum(sum(tasks.values()) for _, tasks in others)
        noun = "reason" if len(others) == 1 else "reasons"
        yield f"{samples:>5}  for {len(others)} other {noun} (see the report)"


def _reason(reason: str, tasks: Mapping[str, int]) -> Iterator[str]:
    """Yield a reason and its tasks: on one line if it is short, otherwise on several."""
    indent = " " * 7
    shown = []
    for task, count in tasks.items():
        name = task.partition("/")[2]
        shown.append(f"{flat(name, 60)} {count}")
    start = f"{sum(tasks.values()):>5}  "
    line = f"{start}{flat(reason, _LONGEST_REASON)}: "
    # a line whose reason leaves no room for the tasks would not tell where to look
    if width(line) + len("10 tasks") <= WIDTH:
        yield listed(line, shown, "task")
    else:
        lines = paragraph(f"{reason}:", _REASON_LINES, indent)
        if width(f"{lines[-1]} {shown[0]}") <= WIDTH - len(", +9 tasks"):
            lines[-1] = listed(f"{lines[-1]} ", shown, "task")
        else:
            lines.append(listed(indent, shown, "task"))
        yield start + lines[0].removeprefix(indent)
        yield from lines[1:]
    if reason == REASONING_CUT:
        yield f"{indent}finish_reason length: raise thinking_tokens in the models file"


def _stability(results: Results) -> Iterator[str]:
    """Yield how much the model's answers vary over the epochs of the run."""
    stability = results.get("stability")
    if stability is None:
        return
    rates = [(entry["flip_rate"], task) for task, entry in stability["tasks"].items()]
    rates.sort(reverse=True)
    varying = [f"{flat(task, 40)} {rate:.3f}" for rate, task in rates if rate]
    yield f"epochs: {stability['epochs']} per sample; flip rate (share of pairs of epochs that disagree):"
    yield from fold(varying[:_VARYING], "  ", "  ")
    others = []
    if len(varying) > _VARYING:
        others.append(f"lower in {len(varying) - _VARYING} more")
    if len(varying) < len(rates):
        others.append(f"zero in {len(rates) - len(varying)} of {len(rates)} tasks")
    if others:
        yield "  " + ", ".join(others)


def _caveats(results: Results) -> Iterator[str]:
    for note in caveats.of(results):
        if width(note) <= WIDTH:
            yield note
        else:
            first, *others = paragraph(note, _CAVEAT_LINES, "  ")
            yield first.strip()
            yield from others


def _budget(budget: BudgetEntry | None) -> Iterator[str]:
    """Yield what the run was allowed to spend and what it spent."""
    if budget is None:
        return
    yield cut(f"budget: {_amounts(budget['given'])}; spent: {_amounts(budget['spent'])}")
    if budget["estimate"] is not None:
        yield cut(f"  estimate: {estimate(budget['estimate'])}")
    if budget["reached"] is not None:
        yield cut(f"  {flat(budget['reached'], 60)}: {budget['cut']} samples left for the next run")


def _cost(usage: UsageEntry) -> Iterator[str]:
    """Yield the cost of the models whose price is known."""
    costs = {"model": usage.get("cost_usd")}
    for role, used in usage.get("roles", {}).items():
        costs[role] = used.get("cost_usd")
    priced = [f"{name} {usd(cost)}" for name, cost in costs.items() if cost is not None]
    if priced:
        yield cut(f"cost: {', '.join(priced)}")


def estimate(cost: EstimatedCost) -> str:
    """Return an estimate of the models under test on one line."""
    tokens = f"{cost['input_tokens']:,} + at most {cost['output_tokens_at_most']:,} tokens"
    line = f"{cost['requests']:,} requests, {tokens}"
    if cost["usd_at_most"] is not None:
        line += f", at most {usd(cost['usd_at_most'])}"
    return line


def usd(amount: float) -> str:
    """Return an amount of money; below 1 USD with two significant digits."""
    if amount >= 1 or amount == 0:
        return f"{amount:,.2f} USD"
    return f"{amount:.2g} USD"


def _tokens(amount: float) -> str:
    return f"{amount:,.0f} tokens"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < _MINUTES:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min"


_UNITS: Mapping[str, Callable[[float], str]] = {"usd": usd, "tokens": _tokens, "seconds": duration}


def _amounts(amounts: Mapping[str, float | None]) -> str:
    shown = []
    for unit, amount in amounts.items():
        if amount is None:
            # only money can be unknown: the model has no price
            shown.append("unknown cost")
        else:
            shown.append(_UNITS[unit](amount))
    return ", ".join(shown)


def baseline_lines(baseline: BaselineEntry | None) -> Iterator[str]:
    """Yield the changes since the baseline: how many samples are shared, and which of them flipped.

    Args:
        baseline: The comparison in the results document.
    """
    if baseline is None:
        return
    yield cut(f"baseline {flat(baseline['file'], 40)} ({flat(baseline['model'], 20)}, {baseline['started'][:10]})")
    worse = baseline["flipped"]["worse"]
    better = baseline["flipped"]["better"]
    shared = 0
    unshared = {"changed": 0, "added": 0, "removed": 0}
    for task in baseline["tasks"].values():
        shared += task["shared"]
        unshared["changed"] += len(task["changed"])
        unshared["added"] += len(task["added"])
        unshared["removed"] += len(task["removed"])
    counts = [f"{shared} shared samples: {len(worse)} got worse, {len(better)} better"]
    once = baseline.get("scored_once")
    if once is not None:
        counts.append(f"{len(once['lost'])} lost their score, {len(once['gained'])} gained one")
    for word, count in unshared.items():
        if count:
            counts.append(f"{count} {word}")
    yield cut(f"  {'; '.join(counts)}")
    if worse:
        yield listed("  worse: ", _short_ids(worse))
    if better:
        yield listed("  better: ", _short_ids(better))
    if once is not None and once["lost"]:
        yield listed("  lost: ", _short_ids(once["lost"]))
    for warning in baseline["warnings"]:
        yield from hanging(f"WARNING: {flat(warning, 200)}")


def _base_lines(base: BaseModelEntry | None) -> Iterator[str]:
    """Yield what the app changes about the bare model: the difference of every metric, without groups."""
    if base is None:
        return
    yield cut(f"base model {flat(base['model']['name'], 60)}, asked the same samples")
    for name, entry in base["differences"].items():
        if "{" in name:
            continue
        limits = ""
        if entry["ci"] is not None:
            low, high = entry["ci"]
            limits = f" ({low:+.3f} to {high:+.3f})"
        numbers = f"{entry['old']:.3f} to {entry['new']:.3f}"
        yield cut(f"  {flat(name, 50)}: {entry['difference']:+.3f}{limits}, {numbers} on {entry['shared']} samples")


def _short_ids(ids: Iterable[str]) -> list[str]:
    return [flat(id_.partition("/")[2], 60) for id_ in ids]


def _assisted(results: Results) -> Iterator[str]:
    """Yield what all samples would give, of every headline metric of which a random part was asked."""
    lines: list[str] = []
    for dimension in results["scores"]:
        for id_, metric in _headlines(results, dimension).items():
            assisted = metric.get("assisted")
            if assisted is None or assisted.get("reason") in (NOT_RANDOM, NO_SEQUENCE):
                continue
            alone = f"{_number(metric['value'])} ({_between(metric['ci'])}) alone"
            name = flat(id_.partition("/")[2], 40)
            if assisted["value"] is None:
                lines.append(cut(f"  {name} {alone}: the baseline does not help"))
            else:
                lines.append(cut(f"  {name} {_number(assisted['value'])} ({_between(assisted['ci'])}), {alone}"))
    if lines:
        yield "all samples, estimated with the baseline's help, and from those asked alone:"
    yield from lines[:_ASSISTED]
    if len(lines) > _ASSISTED:
        yield f"  and {len(lines) - _ASSISTED} more (see the results)"


def _gates(results: Results, room: int) -> list[str]:
    """Return the gates that did not pass, as far as ``room`` lines hold them, and the verdict."""
    gates = results["gates"]
    left_out = caveats.left_out(results)
    if left_out:
        left_out = f"; {left_out}"
    if not gates:
        return [cut(f"gates: none{left_out}")]
    open_ = [gate for gate in gates if gate["outcome"] not in ("passed", "skipped")]
    open_.sort(key=lambda gate: gate["warn"])  # those that only warn come last
    warned = sum(gate["warn"] for gate in open_)
    shown = open_
    if len(open_) >= room:
        shown = open_[: max(room - 2, _LEAST_GATES)]
    folded = 2 * len(shown) < room  # every gate may take two lines
    lines = []
    for gate in shown:
        lines += _gate(gate, folded=folded)
    if len(shown) < len(open_):
        word = "open" if warned else "failed"
        lines.append(f"  and {len(open_) - len(shown)} more {word} gates")
    return [*lines, *_verdict(gates, len(open_) - warned, warned, left_out)]


def _verdict(gates: Sequence[GateEntry], failed: int, warned: int, left_out: str) -> list[str]:
    """Return the verdict; what no gate decided gets its own line if it does not fit on the verdict's."""
    passed = sum(gate["outcome"] == "passed" for gate in gates)
    skipped = [flat(gate["reason"], 60) for gate in gates if gate["outcome"] == "skipped"]
    verdict = f"gates: {passed} passed, {failed} failed, {len(skipped)} skipped"
    if warned:
        verdict += f", {warned} warned"
    why = ""
    if len(set(skipped)) == 1:
        why = f" ({skipped[0]})"
    line = verdict + left_out + why
    if left_out and width(line) > WIDTH:
        return [cut(f"  NOT JUDGED: {left_out.removeprefix('; ')}"), cut(verdict + why)]
    return [cut(line)]


def _gate(gate: GateEntry, *, folded: bool) -> list[str]:
    """Return a gate that did not pass on one line, or on two if its reason needs them and ``folded`` allows it."""
    word = gate["outcome"].upper().replace("_", " ")
    if gate["warn"]:
        word = f"WARNING {word}"
    file, _, name = gate["id"].partition("::")
    metric = flat(name.partition("[")[0], 60)
    reason = flat(gate["reason"], 200)
    # a reason that names its metric needs no second name
    if not reason.startswith(metric):
        reason = f"{metric}: {reason}"
    file_name = flat(file.rpartition("/")[2], 40)
    line = f"{word} {file_name}: {reason}"
    first, *others = fold(line.split(" "), "  ", " ")
    if not others or not folded:
        return [cut(f"  {line}")]
    rest = " ".join(part.strip() for part in others)
    return [first, cut(f"    {rest}")]
