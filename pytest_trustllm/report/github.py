"""What GitHub Actions shows of a run: a summary in Markdown, and annotations of gates that did not pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.report import figures, verdicts

_GATES = 50
_REASONS = 10
_FLIPS = 20
_ANNOTATIONS = 10  # GitHub shows no more errors of one step
_VIRTUAL = "trustllm/"


def is_here() -> bool:
    """Tell whether this is a step of a workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def write_summary(results: Mapping[str, Any], reasons: Sequence[tuple[str, str, int]]) -> None:
    """Add a run to the step's summary, if this is a step of a workflow; arguments as for :func:`summary`.

    Raises:
        ResultsError: It cannot be written.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY") if is_here() else None
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(summary(results, reasons))
    except OSError as e:
        raise ResultsError(f"GITHUB_STEP_SUMMARY: {path} cannot be written: {e.strerror or e}") from None


def summary(results: Mapping[str, Any], reasons: Sequence[tuple[str, str, int]]) -> str:
    """Return the Markdown of one run.

    Text of models and data stands in code spans, where neither HTML, links, mentions nor Markdown work.

    Args:
        results: The results document, concealed unless the user asked for everything.
        reasons: (task, why, how many) of the unscored samples.
    """
    model = results["run"].get("model", {}).get("name", "unnamed model")
    gates = verdicts.gates_of(results)
    verdict = verdicts.verdict_of(gates)
    mark = {"good": "✅", "bad": "❌"}.get(verdict.tone, "⚪")
    lines = [f"## {mark} Trust: {verdict.word}, {code(model, 120)}", "", f"{verdict.sentence}.", ""]
    if results["run"].get("selection") == "partial":
        lines += ["**Partial selection.** Only some samples ran; every number is about these alone.", ""]
    lines += [*_scores(results), *_gates(gates), *_baseline(results.get("baseline")), *_unscored(reasons)]
    return "\n".join(lines) + "\n"


def commands(results: Mapping[str, Any], root: Path) -> list[str]:
    """Return a workflow command per gate that did not pass; the last one counts those that GitHub would not show.

    Args:
        results: The results document.
        root: What the names of threshold files are relative to; GitHub wants them relative to its checkout.
    """
    bad = [g for g in verdicts.gates_of(results) if g.tone == "bad"]
    shown = bad if len(bad) <= _ANNOTATIONS else bad[: _ANNOTATIONS - 1]
    lines = [_annotation(gate, _above(root)) for gate in shown]
    if len(shown) < len(bad):
        lines.append(f"::error title=Trust gates::and {len(bad) - len(shown)} more gates did not pass")
    return lines


def harmless(line: str) -> str:
    """Return a line in which GitHub's runner finds no command of a model's making.

    The runner takes ``::name ::`` at the start of a line, after blanks, and the older ``##[name]`` anywhere.
    """
    text = line.lstrip()
    if text.startswith("::"):
        line = line[: len(line) - len(text)] + ": :" + text[2:]
    return line.replace("##[", "# #[")


def code(text: object, limit: int = 300) -> str:
    """Return text as a code span that is safe inside a table."""
    flat = one_line(text, limit).replace("`", "'").replace("|", "\\|").strip()
    return f"`{flat or ' '}`"


def _scores(results: Mapping[str, Any]) -> Iterator[str]:
    if not results["scores"]:
        return
    yield "| Dimension | Trust score | Interval | Headline metrics |"
    yield "|---|--:|---|--:|"
    for name, score in results["scores"].items():
        heads = len(score["of"]) + len(score["missing"])
        interval = figures.interval(score.get("ci"))
        yield f"| {code(name, 60)} | {figures.number(score['value'])} | {interval} | {len(score['of'])} of {heads} |"
    yield ""


def _gates(gates: Sequence[verdicts.Gate]) -> Iterator[str]:
    if not gates:
        return
    yield "| Gate | Outcome | Value | Bound | Why |"
    yield "|---|---|--:|---|---|"
    for gate in gates[:_GATES]:
        word = gate.outcome.replace("_", " ")
        outcome = f"**{word}**" if gate.tone == "bad" else word
        value = figures.number(gate.value)
        yield f"| {code(gate.id, 120)} | {outcome} | {value} | {code(gate.bound, 60)} | {code(gate.reason, 200)} |"
    if len(gates) > _GATES:
        yield ""
        yield f"and {len(gates) - _GATES} more gates."
    yield ""


def _baseline(baseline: Mapping[str, Any] | None) -> Iterator[str]:
    if baseline is None:
        return
    worse, better = (baseline["flipped"][side] for side in ("worse", "better"))
    shared = sum(task["shared"] for task in baseline["tasks"].values())
    which = f"{code(baseline['file'], 80)} ({code(baseline['model'], 60)})"
    yield f"Against {which}: **{len(worse):,} got worse**, {len(better):,} better, of {shared:,} shared samples."
    yield ""
    for warning in baseline["warnings"]:
        yield f"- {code(warning)}"
    if baseline["warnings"]:
        yield ""
    if worse:
        more = f" and {len(worse) - _FLIPS:,} more" if len(worse) > _FLIPS else ""
        yield f"Got worse: {', '.join(code(id_, 120) for id_ in worse[:_FLIPS])}{more}"
        yield ""


def _unscored(reasons: Sequence[tuple[str, str, int]]) -> Iterator[str]:
    by_reason: dict[str, int] = {}
    for _, reason, count in reasons:
        by_reason[reason] = by_reason.get(reason, 0) + count
    if not by_reason:
        return
    yield "<details><summary>Unscored samples (counted, never zero)</summary>"
    yield ""
    yield "| Samples | Why |"
    yield "|--:|---|"
    ordered = sorted(by_reason.items(), key=lambda item: -item[1])
    for reason, count in ordered[:_REASONS]:
        yield f"| {count:,} | {code(reason, 200)} |"
    rest = sum(count for _, count in ordered[_REASONS:])
    if rest:
        yield f"| {rest:,} | other reasons |"
    yield ""
    yield "</details>"


def _above(root: Path) -> str:
    """Return what leads from the checkout down to a directory, ending in a slash; nothing if it is not below."""
    workspace = os.environ.get("GITHUB_WORKSPACE", "")
    checkout, here = Path(workspace).resolve(), root.resolve()
    if not workspace or here == checkout or not here.is_relative_to(checkout):
        return ""
    return f"{here.relative_to(checkout).as_posix()}/"


def _annotation(gate: verdicts.Gate, above: str) -> str:
    file, _, name = gate.id.partition("::")
    line = "" if gate.line is None else f"line={gate.line},"
    where = "" if file.startswith(_VIRTUAL) else f"file={_property(above + file)},{line}"
    title = f"Trust gate {gate.outcome.replace('_', ' ')}: {name}"
    return f"::error {where}title={_property(one_line(title, 200))}::{_data(gate.reason)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
