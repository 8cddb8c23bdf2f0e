"""A run in GitHub Actions: a summary in Markdown, and annotations for gates that did not pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import BaselineEntry, Results
from pytest_trustllm.report import caveats, formatting, gate_verdicts
from pytest_trustllm.report.gate_verdicts import GateLine

_GATES = 50
_REASONS = 10
_FLIPS = 20
_ANNOTATIONS = 10  # GitHub shows no more errors per step
_VIRTUAL = "trustllm/"
"""Node ids of gates that come with the package begin with it; GitHub has no such file."""
_MARKS = {"good": "✅", "bad": "❌"}
_UNMARKED = "⚪"


def is_here() -> bool:
    """Return whether this process runs in a step of a workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def write_summary(results: Results, reasons: Sequence[tuple[str, str, int]]) -> None:
    """Add a run to the step's summary, if this is a step of a workflow; arguments as for :func:`summary`.

    Raises:
        ResultsError: It cannot be written.
    """
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path or not is_here():
        return
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(summary(results, reasons))
    except OSError as e:
        raise ResultsError(f"GITHUB_STEP_SUMMARY: {path} cannot be written: {e.strerror or e}") from None


def summary(results: Results, reasons: Sequence[tuple[str, str, int]]) -> str:
    """Return the Markdown of one run.

    Text of models and data is put in code spans, where neither HTML, links, mentions nor Markdown work.

    Args:
        results: The results document, concealed unless the user chose to show everything.
        reasons: (task, why, how many) of the unscored samples.
    """
    gates = gate_verdicts.gates_of(results)
    verdict = gate_verdicts.verdict_of(gates, caveats.left_out(results))
    mark = _MARKS.get(verdict.tone, _UNMARKED)
    model = results["run"]["model"]["name"]
    lines = [f"## {mark} Trust: {verdict.word}, {code(model, 120)}", "", f"{verdict.sentence}.", ""]
    if results["run"]["selection"] == "partial":
        lines += ["**Partial selection.** Only some samples ran; every number covers only those.", ""]
    for note in caveats.mixed(results):
        lines += [f"**WARNING:** {code(note)}", ""]
    lines += scores_table(results)
    lines += gates_table(gates)
    lines += baseline_lines(results.get("baseline"))
    lines += _unscored(reasons)
    return "\n".join(lines) + "\n"


def commands(runs: Sequence[Results], root: Path) -> list[str]:
    """Return workflow commands for gates that did not pass, the worst first, as many as GitHub shows per step.

    Args:
        runs: The results document of every model of the step; the last command counts the gates that have none.
        root: What the names of threshold files are relative to; GitHub wants them relative to its checkout.
    """
    bad: list[tuple[GateLine, str]] = []
    for results in runs:
        about = ""
        if len(runs) > 1:
            model = results["run"]["model"]["name"]
            about = f" ({one_line(model, 60)})"
        for gate in gate_verdicts.gates_of(results):
            if gate.tone == "bad":
                bad.append((gate, about))
    bad.sort(key=lambda entry: _badness(entry[0]))
    shown = bad
    if len(bad) > _ANNOTATIONS:
        shown = bad[: _ANNOTATIONS - 1]  # the last annotation counts the rest
    lines = [_annotation(gate, about, _above(root)) for gate, about in shown]
    if len(shown) < len(bad):
        lines.append(f"::error title=Trust gates::and {len(bad) - len(shown)} more gates did not pass")
    return lines


def _badness(gate: GateLine) -> tuple[int, float]:
    """Return what sorts gates: failed ones by how far they miss their bound, then those without a verdict."""
    rank = ("failed", "no_data", "inconclusive").index(gate.outcome)
    margin = 0.0
    if gate.margin is not None:
        margin = gate.margin  # negative on the bad side of the bound: the worst comes first
    return rank, margin


def harmless(line: str) -> str:
    """Return a line without anything that GitHub's runner would execute as a command.

    The runner takes ``::name ::`` at the start of a line, after blanks, and the older ``##[name]`` anywhere.
    """
    text = line.lstrip()
    if text.startswith("::"):
        line = line[: len(line) - len(text)] + ": :" + text[2:]
    return line.replace("##[", "# #[").replace("##vso[", "# #vso[")


def code(text: object, limit: int = 300) -> str:
    """Return text as a code span that is safe inside a table."""
    flat = one_line(text, limit).replace("`", "'").replace("|", "\\|").strip()
    return f"`{flat or ' '}`"  # two backticks around nothing are not a code span


def scores_table(results: Results) -> Iterator[str]:
    """Yield the lines of a table of trust scores; none without scores."""
    if not results["scores"]:
        return
    yield "| Dimension | Trust score | Interval | Headline metrics |"
    yield "|---|--:|---|--:|"
    for name, score in results["scores"].items():
        value = formatting.number(score["value"])
        interval = formatting.interval(score["ci"])
        used = len(score["of"])
        headlines = used + len(score["missing"])
        yield f"| {code(name, 60)} | {value} | {interval} | {used} of {headlines} |"
    yield ""


def gates_table(gates: Sequence[GateLine]) -> Iterator[str]:
    """Yield the lines of a table of gates; none without gates."""
    if not gates:
        return
    yield "| Gate | Outcome | Value | Bound | Why |"
    yield "|---|---|--:|---|---|"
    for gate in gates[:_GATES]:
        word = gate.outcome.replace("_", " ")
        outcome = f"**{word}**" if gate.tone == "bad" else word
        value = formatting.number(gate.value)
        bound = code(gate.bound, 60)
        reason = code(gate.reason, 200)
        yield f"| {code(gate.id, 120)} | {outcome} | {value} | {bound} | {reason} |"
    if len(gates) > _GATES:
        yield ""
        yield f"and {len(gates) - _GATES} more gates."
    yield ""


def baseline_lines(baseline: BaselineEntry | None) -> Iterator[str]:
    """Yield how many samples flipped since a baseline, and which got worse; nothing without one."""
    if baseline is None:
        return
    worse = baseline["flipped"]["worse"]
    better = baseline["flipped"]["better"]
    shared = sum(task["shared"] for task in baseline["tasks"].values())
    earlier = f"{code(baseline['file'], 80)} ({code(baseline['model'], 60)})"
    yield f"Against {earlier}: **{len(worse):,} got worse**, {len(better):,} better, of {shared:,} shared samples."
    once = baseline.get("scored_once")
    if once is not None:
        yield f"**{len(once['lost']):,} lost their score**, {len(once['gained']):,} gained one."
    yield ""
    for warning in baseline["warnings"]:
        yield f"- {code(warning)}"
    if baseline["warnings"]:
        yield ""
    if worse:
        shown = ", ".join(code(id_, 120) for id_ in worse[:_FLIPS])
        if len(worse) > _FLIPS:
            shown += f" and {len(worse) - _FLIPS:,} more"
        yield f"Got worse: {shown}"
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
    """Return the path from the checkout down to a directory, ending in a slash; empty if it is not below."""
    workspace = os.environ.get("GITHUB_WORKSPACE", "")
    if not workspace:
        return ""
    checkout = Path(workspace).resolve()
    here = root.resolve()
    if here == checkout or not here.is_relative_to(checkout):
        return ""
    return f"{here.relative_to(checkout).as_posix()}/"


def _annotation(gate: GateLine, about: str, above: str) -> str:
    file, _, name = gate.id.partition("::")
    place = ""
    if not file.startswith(_VIRTUAL):
        place = f"file={_property(above + file)},"
        if gate.line is not None:
            place += f"line={gate.line},"
    title = f"Trust gate {gate.outcome.replace('_', ' ')}: {name}{about}"
    return f"::error {place}title={_property(one_line(title, 200))}::{_data(gate.reason)}"


def _data(text: str) -> str:
    # the escapes of GitHub's own toolkit; the percent sign first, as the others contain it
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
