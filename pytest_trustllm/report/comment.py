"""A comment on a pull request or merge request, in Markdown: verdict, what changed, and what did not pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import DifferenceEntry, Results
from pytest_trustllm.report import caveats, formatting, gate_verdicts
from pytest_trustllm.report.github import baseline_lines, code, gates_table, scores_table

LIMIT = 65_536
"""Characters that GitHub accepts in a comment; counted in bytes here, which are never fewer."""
MARKER = "trust"
"""Default name of the marker."""
_CHANGES = 30
_MARKS = {"good": "✅", "bad": "❌"}
_UNMARKED = "⚪"


def marker_line(name: str) -> str:
    """Return the first line of the comment, by which a workflow finds the one to update."""
    return f"<!-- pytest-trustllm comment: {name} -->"


def comment(results: Results, marker: str = MARKER, url: str | None = None) -> str:
    """Return the comment.

    Text of models, data and suites is in code spans, where neither HTML, links, mentions nor Markdown work. What does
    not fit the limit is left out, whole parts at a time from the least important one on, and the last line says so.

    Args:
        results: The results document, concealed unless the user chose to show everything; ``baseline`` in it is what
            the run is compared with.
        marker: Name that tells several comments on one request apart.
        url: Address of the whole report.
    """
    head = [marker_line(marker), *_head(results)]
    foot = [] if url is None else [f"[Whole report]({url})"]
    parts = ["\n".join(part) for part in _parts(results)]
    return _fitted("\n".join(head), [part for part in parts if part], "\n".join(foot))


def _fitted(head: str, parts: Sequence[str], foot: str) -> str:
    """Return as many parts as fit, in their order."""
    note = "_Some parts were too long for a comment and are left out._"
    room = LIMIT - _size(head) - _size(foot) - _size(note) - 3 * len(parts) - 10
    kept: list[str] = []
    for part in parts:
        if _size(part) <= room:
            kept.append(part)
            room -= _size(part)
    if len(kept) < len(parts):
        kept.append(note)
    return "\n\n".join(text.strip("\n") for text in (head, *kept, foot) if text) + "\n"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def _head(results: Results) -> Iterator[str]:
    verdict = gate_verdicts.verdict_of(gate_verdicts.gates_of(results), caveats.left_out(results))
    mark = _MARKS.get(verdict.tone, _UNMARKED)
    yield f"## {mark} Trust: {verdict.word}, {code(results['run']['model']['name'], 120)}"
    yield ""
    yield f"{verdict.sentence}."
    if results["run"]["selection"] == "partial":
        yield ""
        yield "**Partial selection.** Only some samples ran; every number covers only those."


def _parts(results: Results) -> Iterator[list[str]]:
    """Yield the parts of the comment, the most important first."""
    gates = gate_verdicts.gates_of(results)
    open_gates = [gate for gate in gates if gate.tone in ("bad", "warn")]
    yield list(gates_table(open_gates))
    yield list(_changes(results))
    yield list(baseline_lines(results.get("baseline")))
    yield _folded("Scores", list(scores_table(results)))
    yield _folded("Notes", [f"- {code(note, 400)}" for note in [*caveats.of(results), *caveats.mixed(results)]])
    others = [gate for gate in gates if gate not in open_gates]
    yield _folded(f"{formatting.counted(len(others), 'other gate')}", list(gates_table(others)))


def _folded(title: str, lines: list[str]) -> list[str]:
    """Return lines below a title that opens them; none if there are no lines."""
    if not lines:
        return []
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _changes(results: Results) -> Iterator[str]:
    """Yield a table of the numbers that chance does not explain the change of, those that got worse first."""
    baseline = results.get("baseline")
    if baseline is None:
        return
    sure: list[tuple[str, DifferenceEntry]] = []
    for id_, entry in baseline["differences"].items():
        change = formatting.change_of(entry)
        if change is not None and change.sure and "{" not in id_:
            sure.append((id_, entry))
    if not sure:
        yield "No metric changed by more than chance explains."
        return
    sure.sort(key=lambda item: -item[1]["worse_by"])
    yield "| Changed | Before | Now | Difference | Interval | Samples |"
    yield "|---|--:|--:|--:|---|--:|"
    for id_, entry in sure[:_CHANGES]:
        yield _change_row(id_, entry)
    if len(sure) > _CHANGES:
        yield ""
        yield f"and {len(sure) - _CHANGES} more numbers."


def _change_row(id_: str, entry: DifferenceEntry) -> str:
    direction = "worse" if entry["worse_by"] > 0 else "better"
    low, high = entry["ci"] or (entry["difference"], entry["difference"])
    interval = f"{formatting.signed(low)} to {formatting.signed(high)}"
    before = formatting.number(entry["old"])
    now = formatting.number(entry["new"])
    difference = formatting.signed(entry["difference"])
    return f"| {code(id_, 120)} **{direction}** | {before} | {now} | {difference} | {interval} | {entry['shared']:,} |"


def is_marker(name: str) -> bool:
    """Return whether a name can stand in the marker's line."""
    return bool(name) and name == one_line(name, 60) and not {"<", ">"} & {*name} and "--" not in name
