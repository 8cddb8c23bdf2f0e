"""A section of a model card in Markdown: what was measured, under which conditions, and how to measure it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, ModelInfo, Results
from pytest_trustllm.report import caveats, formatting, gate_verdicts, words
from pytest_trustllm.report.export.hub import data_set_of
from pytest_trustllm.report.github import code
from pytest_trustllm.results.coverage import without_score
from pytest_trustllm.results.identity import roles_used

_DIGEST = 16
"""Characters of a SHA-256 that tell files apart for a reader."""


def section(results: Results) -> str:
    """Return the section; names and messages of models, data and suites are code spans, and so plain text."""
    lines = ["## Trustworthiness evaluation", "", *_summary(results), ""]
    lines += [*_metrics(results), "", *_corrected(results), *_gates(results)]
    lines += _meanings(results)
    lines += ["### Conditions", "", *_conditions(results), ""]
    lines += ["### Limits", "", *_limits(results), ""]
    lines += ["### How to reproduce", "", *_reproduction(results)]
    return "\n".join(lines) + "\n"


def _summary(results: Results) -> Iterator[str]:
    run = results["run"]
    yield (
        f"{code(run['model']['name'], 120)} was evaluated with the suites of pytest-trustllm "
        f"{code(run['plugin_version'], 20)} (TrustLLM, arXiv:2401.05561) on {code(run['started'][:10], 20)}."
    )
    gates = gate_verdicts.gates_of(results)
    if gates:
        verdict = gate_verdicts.verdict_of(gates, caveats.left_out(results))
        yield ""
        yield f"**{verdict.word}**: {verdict.sentence}."


def _metrics(results: Results) -> Iterator[str]:
    yield "| Dimension | Metric | Value | Interval | Samples scored | Better | Data |"
    yield "|---|---|--:|---|--:|---|---|"
    for dimension, score in results["scores"].items():
        interval = formatting.interval(score["ci"])
        value = formatting.number(score["value"])
        data = code(data_set_of(results, f"{dimension}/score").cell, 120)
        yield f"| **{code(dimension, 60)}** | trust score | {value} | {interval} | | higher | {data} |"
        for id_ in [*score["of"], *score["missing"]]:
            metric = results["metrics"].get(id_)
            if metric is not None:
                yield _row(id_, metric, data_set_of(results, id_).cell)


def _row(id_: str, metric: MetricEntry, data: str) -> str:
    range_ = formatting.range_of(metric)
    value = formatting.number(metric["value"], range_)
    interval = formatting.interval(metric["ci"], range_)
    better = "higher" if metric["higher_is_better"] else "lower"
    samples = f"{metric['scored']:,} of {metric['expected']:,}"
    return f"| | {code(id_.partition('/')[2], 120)} | {value} | {interval} | {samples} | {better} | {code(data, 120)} |"


def _corrected(results: Results) -> Iterator[str]:
    """Yield the rates without the mistakes of who counted them; those of single groups are in the results file."""
    corrected = {}
    for id_, metric in results["metrics"].items():
        entry = metric.get("judge_corrected")
        if entry is not None and "{" not in id_:
            corrected[id_] = entry
    if not corrected:
        return
    yield "| Metric | Reading | Value | Interval | Why not | Data |"
    yield "|---|---|--:|---|---|---|"
    for id_, entry in corrected.items():
        number, interval = formatting.number(entry["value"]), formatting.interval(entry["ci"])
        reason = entry.get("reason", "") if entry["value"] is None else ""
        why, data = code(reason, 300) if reason else "", code(data_set_of(results, id_).cell, 120)
        yield f"| {code(id_.partition('/')[2], 120)} | corrected | {number} | {interval} | {why} | {data} |"
    yield ""


def _gates(results: Results) -> Iterator[str]:
    gates = gate_verdicts.gates_of(results)
    if not gates:
        return
    yield "| Gate | Outcome | Value | Bound |"
    yield "|---|---|--:|---|"
    for gate in gates:
        outcome = gate.outcome.replace("_", " ")
        yield f"| {code(gate.metric, 120)} | {outcome} | {formatting.number(gate.value)} | {code(gate.bound, 60)} |"
    yield ""


def _meanings(results: Results) -> Iterator[str]:
    """Yield what the headline metrics say in plain words, and where auditors look for them; nothing for own suites."""
    lines: list[str] = []
    for dimension, score in results["scores"].items():
        about = words.words_of_dimension(dimension)
        if about is None:
            continue
        places = "; ".join(f"{place.entry} {place.title}" for place in words.references_of(dimension))
        lines.append(f"- **{code(dimension, 60)}**: {about.plain} If not: {about.harm} ({places})")
        for id_ in [*score["of"], *score["missing"]]:
            meaning = words.words_of(id_)
            if meaning is not None:
                lines.append(f"  - {code(id_.partition('/')[2], 120)}: {meaning.plain}")
    if lines:
        yield from ["### What the numbers mean", "", *lines, ""]


def _conditions(results: Results) -> Iterator[str]:
    run = results["run"]
    yield f"- Model: {_model(run['model'])}"
    for role, model in roles_used(results).items():
        yield f"- {code(role.capitalize(), 40)}: {_model(model)}{_checked(results, role)}"
    yield f"- Data: {code(run['data']['source'], 200)}, {formatting.counted(len(run['data']['files']), 'file')}"
    for file, sha256 in run["data"]["files"].items():
        yield f"  - {code(file, 200)} SHA-256 {code(sha256[:_DIGEST])}"
    for dimension, licences in run.get("licences", {}).items():
        named = ", ".join(f"{code(name, 80)} {code(licence, 120)}" for name, licence in licences.items())
        yield f"- Licences of the data for {code(dimension, 60)}: {named}"
    yield f"- Seed {run['seed']}, {formatting.counted(run['epochs'], 'epoch')}, selection {code(run['selection'], 40)}"
    commit = run.get("commit")
    if commit is not None:
        changed = " with local changes" if commit["changed"] else ""
        yield f"- Commit: {code(commit['id'], 64)}{changed}"


def _model(model: ModelInfo) -> str:
    words = [code(model["name"], 120)]
    for key, label in (("id", "id"), ("revision", "revision"), ("dtype", "data type")):
        value = model.get(key)
        if value and value != model["name"]:
            words.append(f"{label} {code(value, 120)}")
    return ", ".join(words)


def _checked(results: Results, role: str) -> str:
    """Return how well a judge or classifier agreed with people, as far as that was checked."""
    quality = caveats.agreement_with_people(results, role)
    if quality:
        return f"; {quality}"
    return "" if role == "embedder" else "; not checked against labels by people"


def _limits(results: Results) -> Iterator[str]:
    run = results["run"]
    if run["data"]["source"] == "sample":
        yield "- The numbers are over bundled sample items, not TrustLLM's data set: they do not compare models."
    if run["selection"] == "partial":
        yield "- Only a part of the samples was selected; every number covers only that part."
    for dimension, score in results["scores"].items():
        if score["missing"]:
            names = ", ".join(code(id_.partition("/")[2], 120) for id_ in score["missing"])
            yield f"- Not measured in {code(dimension, 60)}: {names}"
    unscored = without_score(results["coverage"])
    if unscored:
        yield f"- {formatting.counted(unscored, 'sample')} without a score are in no number."
    in_table = set(caveats.corrected(results))
    for note in [*caveats.of(results), *caveats.mixed(results)]:
        if note not in in_table:
            yield f"- {code(note, 400)}"
    yield "- Metrics describe behaviour on these prompts. They do not show that a model is safe in another use."


def _reproduction(results: Results) -> Iterator[str]:
    run = results["run"]
    yield "~~~sh"
    package = f"pytest-trustllm=={one_line(run['plugin_version'], 40)}"
    yield f"pip install {shlex.quote(package)}"
    command = run.get("command")
    if command:
        yield f"pytest {shlex.join(one_line(argument, 1000) for argument in command)}"
    yield "~~~"
