"""The first screen: what was tested and what was not, who judged, how sure the numbers are, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import ModelInfo, Results
from pytest_trustllm.models import catalogue
from pytest_trustllm.report import caveats
from pytest_trustllm.report.formatting import counted, duration, moment, number, signed, task_of
from pytest_trustllm.report.gate_verdicts import GateLine
from pytest_trustllm.report.page.comparison import SideBySide
from pytest_trustllm.report.page.gate_groups import worst_of
from pytest_trustllm.report.page.sample_data import Packed
from pytest_trustllm.results.coverage import without_score
from pytest_trustllm.results.identity import roles_used

_SHAKY = 0.1
"""A verdict is shaky if this share of identical runs, or more, gets another one."""
_NAMED = 6
"""So many tasks are named before the others are counted."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a line: text, with the address of what it is about.

    Attributes:
        tone: ``warn`` for what limits how far the report can be trusted.
    """

    text: str
    link: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the card, such as *Judged by*."""

    label: str
    parts: Sequence[Part]


def worst(gates: Sequence[GateLine]) -> Part | None:
    """Return the metric that is farthest beyond its bound, in words; None if none is."""
    gate = worst_of(gates)
    if gate is None or gate.margin is None:
        return None
    side = "above" if gate.bound.startswith("at most") else "below"
    name = gate.metric if gate.metric != "score" else f"trust score of {gate.dimension}"
    return Part(f"{name}, {number(abs(gate.margin))} {side} its bound", gate.link)


def lines_of(results: Results, packed: Packed, gates: Sequence[GateLine], beside: SideBySide | None) -> list[Line]:
    """Return the lines of the card; none is empty.

    Args:
        results: The run.
        packed: Its samples.
        gates: Its gates.
        beside: The comparison with earlier runs; None if there are none.
    """
    lines = {
        "Tested": _tested(results, packed),
        "Not tested": _not_tested(results),
        "Judged by": _judged(results),
        "How sure": _sureness(results, gates),
        "Changed": _changed(beside),
        "Model": _model(results["run"]["model"]),
        "Data": _data(results),
        "Run": _run(results),
    }
    card = []
    for label, parts in lines.items():
        shown = list(parts)
        if shown:
            card.append(Line(label, shown))
    return card


def untested(results: Results) -> list[str]:
    """Return the tasks of TrustLLM that the run left out; none for a run of other suites alone."""
    if not runs_benchmark(results):
        return []
    return [task for task in _benchmark() if task not in results["coverage"]]


def runs_benchmark(results: Results) -> bool:
    """Return whether any task of the run is TrustLLM's."""
    return any(task in results["coverage"] for task in _benchmark())


def _benchmark() -> list[str]:
    return list(dict.fromkeys(task_of(id_) for id_ in catalogue.published_scores().metrics))


def _tested(results: Results, packed: Packed) -> Iterator[Part]:
    dimensions = counted(len(results["scores"]), "dimension")
    tasks = counted(len(results["coverage"]), "task")
    yield Part(f"{counted(packed.total, 'sample')}, {tasks}, {dimensions}", "#dimensions")
    if results["run"]["selection"] == "partial":
        yield Part("only some of the samples were selected", tone="warn")


def _not_tested(results: Results) -> Iterator[Part]:
    left_out = untested(results)
    if left_out:
        yield Part(f"left out of TrustLLM: {_listed(left_out)}", tone="warn")
    unlicensed = results["run"].get("unlicensed", {})
    if unlicensed:
        yield Part(f"left out by licence: {_listed(unlicensed)}", tone="warn")
    missing = [id_ for score in results["scores"].values() for id_ in score["missing"]]
    if missing:
        yield Part(f"no value: {_listed(map(task_of, missing))}", "#unscored", "warn")
    unscored = without_score(results["coverage"])
    if unscored:
        yield Part(f"{counted(unscored, 'sample')} without a score", "#unscored")
    unneeded = sum(entry.get("unneeded", 0) for entry in results["coverage"].values())
    if unneeded:
        yield Part(f"{counted(unneeded, 'sample')} not asked, as no gate needed them")
    deselected = sum(entry["deselected"] for entry in results["coverage"].values())
    if deselected:
        yield Part(f"{counted(deselected, 'sample')} deselected")
    yield Part("nothing beyond the prompts of these tasks", "#limits")


def _listed(tasks: Iterable[str]) -> str:
    """Return names of tasks without their dimension, each once; of many only the first."""
    names = list(dict.fromkeys(one_line(task.rpartition("/")[2], 40) for task in tasks))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _judged(results: Results) -> Iterator[Part]:
    roles = roles_used(results)
    if not roles:
        yield Part("rules alone; no further model took part")
    for role, model in roles.items():
        quality = caveats.agreement_with_people(results, role)
        name = f"{one_line(role, 30)}: {one_line(model['name'], 60)}"
        if quality:
            yield Part(f"{name}, {quality}", "#run")
        elif role in caveats.JUDGING:
            yield Part(f"{name}, not checked against people's labels", "#run", "warn")
        else:
            yield Part(name, "#run")
    for note in caveats.judges_itself(results):
        yield Part(note, tone="warn")


def _sureness(results: Results, gates: Sequence[GateLine]) -> Iterator[Part]:
    scores = {name: score["ci"] for name, score in results["scores"].items() if score["ci"] is not None}
    confidences = {score["confidence"] for score in results["scores"].values() if score["confidence"] is not None}
    if scores and len(confidences) == 1:
        name, limits = max(scores.items(), key=lambda item: item[1][1] - item[1][0])
        widest = f"{number(limits[0])} to {number(limits[1])} ({one_line(name, 40)})"
        level = f"{100 * confidences.pop():.4g} % intervals"
        what = "the widest interval of a trust score is" if len(scores) > 1 else "the interval of the trust score is"
        yield Part(f"{what} {widest}; {level}", "#scores")
    known = [gate.another for gate in gates if gate.another is not None]
    if known:
        shaky = sum(another >= _SHAKY for another in known)
        verdicts = counted(len(known), "verdict")
        words = f"{shaky} of {verdicts} may turn out otherwise by chance (10\u00a0% or more of reruns)"
        yield Part(words, "#gates", "warn" if shaky else "")
    epochs = results["run"]["epochs"]
    yield Part("every prompt asked once" if epochs == 1 else f"every prompt asked {epochs} times")


def _changed(beside: SideBySide | None) -> Iterator[Part]:
    if beside is None:
        yield Part("no earlier run to compare with (--trust-baseline)")
        return
    changes = beside.changes
    yield Part(f"since {beside.names[0]}: {changes.worse:,} samples worse", beside.worse)
    yield Part(f"{changes.better:,} better, of {changes.compared:,}", beside.better)
    sure = [line for line in beside.scores if line.change is not None and line.change.sure]
    for line in sure[:3]:
        if line.change is not None:
            yield Part(f"{line.label} {signed(line.change.difference)}", "#comparison")


def _model(model: ModelInfo) -> Iterator[Part]:
    yield Part(one_line(model["name"], 80))
    id_ = model.get("id")
    if id_ and id_ != model["name"]:
        yield Part(one_line(id_, 80))
    revision = model.get("revision")
    yield Part(
        f"revision {one_line(revision, 64)}" if revision else "revision not known", tone="" if revision else "warn"
    )
    licence = model.get("about", {}).get("licence")
    yield Part(f"licence {one_line(licence, 60)}" if licence else "licence unknown", tone="" if licence else "warn")


def _data(results: Results) -> Iterator[Part]:
    run = results["run"]
    source = run["data"]["source"]
    if source != "sample":
        words = one_line(source, 80)
    elif caveats.sample_items(results):
        words = "bundled sample items"
    else:
        words = "own items"
    yield Part(f"{words}, {counted(len(run['data']['files']), 'file')}", "#run")
    licences = sorted(set(run.get("task_licences", {}).values()))
    if licences:
        yield Part(f"licence {one_line(', '.join(licences), 120)}", "#audit")


def _run(results: Results) -> Iterator[Part]:
    run = results["run"]
    yield Part(f"{moment(run['started'])}, {duration(run['seconds'])}")
    yield Part(f"seed {run['seed']}")
    commit = run.get("commit")
    if commit is not None:
        changed = " with local changes" if commit["changed"] else ""
        yield Part(f"commit {one_line(commit['id'], 64)}{changed}", tone="warn" if changed else "")
    else:
        yield Part("commit not recorded", tone="warn")
    cost = results["usage"].get("cost_usd")
    if cost is not None:
        yield Part(f"{cost:,.2f} USD")
