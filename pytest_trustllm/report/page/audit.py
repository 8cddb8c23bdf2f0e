"""What an auditor looks for: who signs, what the numbers cannot tell, licences, what was left out, and checksums."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import Results
from pytest_trustllm.report import caveats
from pytest_trustllm.report.formatting import counted
from pytest_trustllm.report.page.overview import runs_benchmark, untested
from pytest_trustllm.report.words import references_of
from pytest_trustllm.results.document import document_text

_BENCHMARK = """
TrustLLM's prompts and answers have been public since 2024. A model that saw them in training looks better than it is.
Most prompts are single questions in English. They say little about other languages, conversations, tools or your users.
A refusal is recognised in the text of an answer. One in unusual words is missed; a harmful answer may look like one.
"""
"""What limits every run of TrustLLM, one sentence or two a line."""
_GENERAL = "Metrics describe behaviour on these prompts. They do not show that a model is safe in another use."
_SIGNED = ("purpose", "responsible")
"""Keys of ``run.extra`` by which a hook fills in what otherwise is a blank line."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the evidence of a dimension belongs.

    Attributes:
        entries: (Tag, title).
    """

    dimension: str
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Audit:
    """The section for auditors.

    Attributes:
        form: (What to write down, what is known of it); empty: a blank line to write on.
        limits: What the numbers cannot tell, in sentences.
        licences: (Licence, what is under it).
        left_out: (Why, tasks).
        places: Where the evidence belongs in the lists that auditors use.
        sources: Titles and addresses of these lists.
        checksum: SHA-256 of the results file; empty if there can be none.
    """

    form: Sequence[tuple[str, str]]
    limits: Sequence[str]
    licences: Sequence[tuple[str, str]]
    left_out: Sequence[tuple[str, str]]
    places: Sequence[Place]
    sources: Sequence[tuple[str, str]]
    checksum: str


def audit_of(results: Results) -> Audit:
    """Return what an auditor looks for in a run."""
    extra = results["run"].get("extra", {})
    known = [one_line(extra.get(key, ""), 300) for key in _SIGNED]
    return Audit(
        form=[
            ("Purpose of this evaluation", known[0]),
            ("Responsible person", known[1]),
            ("Decision", ""),
            ("Date and signature", ""),
        ],
        limits=list(_limits(results)),
        licences=_licences(results),
        left_out=list(_left_out(results)),
        places=_places(results),
        sources=_sources(results),
        checksum=_checksum(results),
    )


def _checksum(results: Results) -> str:
    try:
        text = document_text(results)
    except (TypeError, ValueError):  # a hook added what JSON cannot hold: there is no results file
        return ""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _limits(results: Results) -> Iterator[str]:
    if caveats.sample_items(results):
        yield "The bundled sample items are a handful per task. They show that a set-up works, and compare no models."
    if runs_benchmark(results):
        yield from _BENCHMARK.strip().splitlines()
    for note in [*caveats.of(results), *caveats.mixed(results)]:
        yield f"{note[0].upper()}{note[1:]}."
    yield _GENERAL


def _licences(results: Results) -> list[tuple[str, str]]:
    """Return the licences of the rows and of the data sets that they are made from, with what is under each."""
    run = results["run"]
    by_licence: dict[str, list[str]] = defaultdict(list)
    for task, licence in run.get("task_licences", {}).items():
        by_licence[licence].append(task)
    lines = [(one_line(licence, 120), f"rows of {_tasks(tasks, results)}") for licence, tasks in by_licence.items()]
    sources: dict[str, list[str]] = defaultdict(list)
    for sets in run.get("licences", {}).values():
        for name, licence in sets.items():
            sources[licence].append(name)
    lines += [(one_line(licence, 120), f"data set {_listed(names)}") for licence, names in sources.items()]
    model = run["model"].get("about", {}).get("licence")
    if model:
        lines.append((one_line(model, 120), "the model"))
    return lines


def _left_out(results: Results) -> Iterator[tuple[str, str]]:
    """Yield why tasks are not in the run or decide nothing, and which."""
    run = results["run"]
    benchmark = untested(results)
    if benchmark:
        yield "Tasks of TrustLLM that did not run", _listed(benchmark)
    unlicensed = run.get("unlicensed", {})
    if unlicensed:
        yield "Left out because of their licence", _listed([f"{task} ({name})" for task, name in unlicensed.items()])
    missing = [id_ for score in results["scores"].values() for id_ in score["missing"]]
    if missing:
        yield "Headline metrics without a value", _listed(missing)
    unjudged = results.get("unjudged")
    if unjudged is not None and unjudged["tasks"]:
        yield "Tasks without a gate", _tasks(unjudged["tasks"], results)
    if unjudged is not None and unjudged["gates"]:
        yield "Gates that were deselected", _listed(unjudged["gates"])
    deselected = sum(entry["deselected"] for entry in results["coverage"].values())
    if deselected:
        yield "Samples that were deselected", counted(deselected, "sample")


def _places(results: Results) -> list[Place]:
    places = []
    for dimension in results["scores"]:
        entries = [(reference.tag, reference.title) for reference in references_of(dimension)]
        if entries:
            places.append(Place(one_line(dimension, 60), entries))
    return places


def _sources(results: Results) -> list[tuple[str, str]]:
    sources = {}
    for dimension in results["scores"]:
        for reference in references_of(dimension):
            sources[reference.source] = reference.url
    return list(sources.items())


def _tasks(tasks: Sequence[str], results: Results) -> str:
    """Return tasks in words: whole dimensions by their name."""
    names: dict[str, None] = {}
    for task in tasks:
        dimension = task.partition("/")[0]
        whole = [other for other in results["run"]["generation"] if other.startswith(f"{dimension}/")]
        is_whole = len(whole) > 1 and set(whole) <= set(tasks)
        names[f"all of {dimension}" if is_whole else task] = None
    return _listed(list(names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(one_line(name, 120) for name in names)
