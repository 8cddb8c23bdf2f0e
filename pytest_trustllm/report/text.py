"""The terminal summary: one screen, 80 columns, no colour needed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import notes

WIDTH = 80
_SCREEN = 30
_REASONS = 4
_VARYING = 6
_NARROW = 2  # columns of counts that leave room for intervals
_STATUSES = ("passed", "missed", "unscored", "error")


def summary(results: Mapping[str, Any], reasons: Sequence[tuple[str, str, int]]) -> list[str]:
    """Return the lines that a person reads first.

    Args:
        results: The results document.
        reasons: (task, why, how many) of the unscored samples.
    """
    lines = [*_header(results), *_dimensions(results), *_unscored(reasons), *_again(results), *_usage(results)]
    lines += baseline_lines(results.get("baseline"))
    return lines + _gates(results["gates"], _SCREEN - len(lines))


def _header(results: Mapping[str, Any]) -> Iterator[str]:
    if results["run"].get("selection") == "partial":
        yield "PARTIAL SELECTION: only some samples ran, and the numbers are theirs alone."


def _dimensions(results: Mapping[str, Any]) -> Iterator[str]:
    scores, counts = results["scores"], _counts(results)
    if not scores:
        yield "No sample ran."
        return
    widest = max(len("dimension"), *(_width(_flat(name, 30)) for name in scores))
    columns = [s for s in _STATUSES if any(c.get(s) for c in counts.values())] if counts else ["scored", "unscored"]
    sure = any(score.get("ci") for score in scores.values()) and len(columns) <= _NARROW
    yield _row(widest, "dimension", "score", "interval" if sure else "", "metrics", *columns)
    starred = False
    for name, score in scores.items():
        metrics = _headlines(results, name)
        numbers = counts.get(name, {}) if counts else _sums(metrics.values())
        used = f"{len(score['of'])}/{len(metrics)}"
        between = "-".join(map(_number, score["ci"])) if sure and score.get("ci") else "-" * sure
        cells = (str(numbers.get(c, 0)) for c in columns)
        yield _row(widest, _flat(name, 30), _number(score["value"]), between, used, *cells)
        starred = starred or any(not m["higher_is_better"] for m in metrics.values())
        yield from _fold([_headline(id_, m) for id_, m in metrics.items()], "  ", "  ")
    yield "score: mean of the headline metrics" + (", those with * (lower is better) turned" if starred else "")


def _row(widest: int, name: str, score: str, between: str, used: str, *numbers: str) -> str:
    cells = "".join(f"{n:>10}" for n in numbers)
    return f"{name}{' ' * (widest - _width(name))}{score:>8}{f'{between:>14}' if between else ''}{used:>9}{cells}"


def _headlines(results: Mapping[str, Any], dimension: str) -> dict[str, Mapping[str, Any]]:
    score = results["scores"][dimension]
    names = {*score["of"], *score["missing"]}
    return {id_: m for id_, m in results["metrics"].items() if id_ in names}


def _headline(id_: str, metric: Mapping[str, Any]) -> str:
    task = _flat(id_.partition("/")[2].rpartition(".")[0], 40)
    return f"{task} {_number(metric['value'])}{'' if metric['higher_is_better'] else '*'}"


def _counts(results: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return dimension -> status -> samples, where the results say so."""
    found: dict[str, dict[str, int]] = {}
    for task, statuses in results.get("counts", {}).items():
        sums = found.setdefault(task.partition("/")[0], {})
        for status, count in statuses.items():
            sums[status] = sums.get(status, 0) + count
    return found


def _sums(metrics: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    found = {"scored": 0, "unscored": 0}
    for metric in metrics:
        for name in found:
            found[name] += metric[name]
    return found


def _unscored(reasons: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    by_reason: dict[str, dict[str, int]] = {}
    for task, reason, count in reasons:
        tasks = by_reason.setdefault(_flat(reason or "no reason given", 120), {})
        tasks[task] = tasks.get(task, 0) + count
    if not by_reason:
        return
    ordered = sorted(by_reason.items(), key=lambda item: -sum(item[1].values()))
    yield "unscored (counted, never zero):"
    for reason, tasks in ordered[:_REASONS]:
        shown = [f"{_flat(task.partition('/')[2], 60)} {count}" for task, count in tasks.items()]
        yield _one(f"{sum(tasks.values()):>5}  {reason}: ", shown)
    rest = ordered[_REASONS:]
    if rest:
        samples = sum(count for _, tasks in rest for count in tasks.values())
        yield f"{samples:>5}  for {len(rest)} other reasons (see the report)"


def _again(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield how much answers vary that were asked for several times: the model's over epochs, the judge's by votes."""
    stability = results.get("stability")
    if stability is not None:
        rates = sorted(((entry["flip_rate"], task) for task, entry in stability["tasks"].items()), reverse=True)
        varying = [f"{_flat(task, 40)} {rate:.3f}" for rate, task in rates if rate]
        yield f"epochs: {stability['epochs']} per sample; flip rate (share of pairs of epochs that disagree):"
        yield from _fold(varying[:_VARYING], "  ", "  ")
        less, never = len(varying[_VARYING:]), len(rates) - len(varying)
        parts = [f"less in {less} more" if less else "", f"never in {never} of {len(rates)} tasks" if never else ""]
        if any(parts):
            yield "  " + ", ".join(part for part in parts if part)
    for note in (notes.judge_votes(results), notes.near_ties(results)):
        if note is not None:
            yield _cut(note)


def _usage(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the run cost, where somebody put a price or a limit on it."""
    usage, budget = results.get("usage", {}), results["run"].get("budget")
    if budget is not None:
        yield _cut(f"budget: {_amounts(budget['given'])}; spent: {_amounts(budget['spent'])}")
        if budget["estimate"] is not None:
            yield _cut(f"  estimate: {estimate(budget['estimate'])}")
        if budget["reached"] is not None:
            yield _cut(f"  {_flat(budget['reached'], 60)}: {budget['cut']} samples left for the next run")
    costs = {"model": usage.get("cost_usd"), **{n: u.get("cost_usd") for n, u in usage.get("roles", {}).items()}}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    if known:
        yield _cut("cost: " + ", ".join(f"{name} {usd(cost)}" for name, cost in known.items()))


def estimate(found: Mapping[str, Any]) -> str:
    """Return an estimate of the models under test on one line."""
    money = "" if found["usd_at_most"] is None else f", at most {usd(found['usd_at_most'])}"
    tokens = f"{found['input_tokens']:,} + at most {found['output_tokens_at_most']:,} tokens"
    return f"{found['requests']:,} requests, {tokens}{money}"


def _amounts(amounts: Mapping[str, float]) -> str:
    shown = {"usd": usd, "tokens": lambda n: f"{n:,.0f} tokens", "seconds": _time}
    return ", ".join(shown[kind](amount) for kind, amount in amounts.items())


def usd(amount: float) -> str:
    """Return an amount of money, small ones with two digits that say something."""
    return f"{amount:,.2f} USD" if amount >= 1 or amount == 0 else f"{amount:.2g} USD"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def _one(start: str, parts: Sequence[str]) -> str:
    """Return the start and as many parts as one line holds, and how many it does not."""
    for kept in range(len(parts), 0, -1):
        left = len(parts) - kept
        line = start + ", ".join(parts[:kept]) + (f", +{left} {'task' if left == 1 else 'tasks'}" if left else "")
        if _width(line) <= WIDTH:
            return line
    tasks = f"{len(parts)} {'task' if len(parts) == 1 else 'tasks'}"
    return _cut(start, WIDTH - len(tasks)) + tasks


def baseline_lines(baseline: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what became of the samples since the baseline: how many are shared, and which flipped.

    Args:
        baseline: What the results say about it.
    """
    if baseline is None:
        return
    sums = {k: sum(_size(t[k]) for t in baseline["tasks"].values()) for k in ("shared", "changed", "added", "removed")}
    worse, better = (baseline["flipped"][side] for side in ("worse", "better"))
    yield _cut(f"baseline {_flat(baseline['file'], 40)} ({_flat(baseline['model'], 20)}, {baseline['started'][:10]})")
    counts = f"{sums['shared']} shared samples: {len(worse)} got worse, {len(better)} better"
    yield _cut("  " + "; ".join([counts, *(f"{n} {k}" for k, n in sums.items() if n and k != "shared")]))
    for side, ids in (("worse", worse), ("better", better)):
        if ids:
            yield _listed(f"  {side}: ", [_flat(id_.partition("/")[2], 60) for id_ in ids])
    for warning in baseline["warnings"]:
        yield _cut(f"  WARNING: {_flat(warning, 200)}")


def _size(found: int | Sequence[str]) -> int:
    return found if isinstance(found, int) else len(found)


def _listed(start: str, names: Sequence[str]) -> str:
    """Return the start and as many names as one line holds, and how many it does not."""
    for kept in range(len(names), 0, -1):
        more = f", +{len(names) - kept}" if kept < len(names) else ""
        line = start + ", ".join(names[:kept]) + more
        if _width(line) <= WIDTH:
            return line
    return _cut(f"{start}{len(names)}")


def _gates(gates: Sequence[Mapping[str, Any]], room: int) -> list[str]:
    if not gates:
        return ["gates: none"]
    open_ = [g for g in gates if g["outcome"] not in ("passed", "skipped")]
    bad = sorted(open_, key=lambda g: bool(g.get("warn")))  # those that only warn come last
    warned = sum(bool(g.get("warn")) for g in bad)
    passed, skipped = (sum(g["outcome"] == outcome for g in gates) for outcome in ("passed", "skipped"))
    verdict = f"gates: {passed} passed, {len(bad) - warned} failed, {skipped} skipped"
    verdict += f", {warned} warned" if warned else ""
    shown = bad if len(bad) < room else bad[: max(room - 2, 3)]
    lines = [line for g in shown for line in _gate(g, fold=2 * len(shown) < room)]
    if len(shown) < len(bad):
        lines.append(f"  and {len(bad) - len(shown)} more {'failed' if not warned else 'open'} gates")
    why = {_flat(g["reason"], 60) for g in gates if g["outcome"] == "skipped"}
    return [*lines, _cut(f"{verdict} ({why.pop()})" if len(why) == 1 else verdict)]


def _gate(gate: Mapping[str, Any], *, fold: bool) -> list[str]:
    """Return a gate that did not pass on one line, or on two if its reason needs them and ``fold`` allows."""
    word = _flat(gate["outcome"], 12).upper().replace("_", " ")
    word = f"WARNING {word}" if gate.get("warn") else word
    file, _, name = gate["id"].partition("::")
    metric, reason = _flat(name.partition("[")[0], 60), _flat(gate["reason"], 200)
    what = reason if reason.startswith(metric) else f"{metric}: {reason}"
    whole = f"{word} {_flat(file.rpartition('/')[2], 40)}: {what}"
    first, *rest = _fold(whole.split(" "), "  ", " ")
    if not rest or not fold:
        return [_cut(f"  {whole}")]
    return [first, _cut("    " + " ".join(line.strip() for line in rest))]


def _fold(parts: Sequence[str], indent: str, gap: str) -> Iterator[str]:
    line = ""
    for part in parts:
        longer = f"{line}{gap}{part}" if line else f"{indent}{part}"
        if line and _width(longer) > WIDTH:
            yield _cut(line)
            longer = f"{indent}{part}"
        line = longer
    if line:
        yield _cut(line)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _flat(text: object, limit: int) -> str:
    """Return printable text of at most ``limit`` characters; an ellipsis would not fit an ASCII terminal."""
    flat = one_line(text, limit * 12)
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def _cut(line: str, width: int = WIDTH) -> str:
    if _width(line) <= width:
        return line
    kept = ""
    for char in line:
        if _width(kept + char) > width - 3:
            break
        kept += char
    return kept + "..."


def _width(text: str) -> int:
    """Return the columns that a terminal gives to a text."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
