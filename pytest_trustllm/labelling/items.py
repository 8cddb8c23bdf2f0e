"""From responses that were drawn from a run to what people are shown, and what the file of labels says about each."""

from __future__ import annotations

import os.path
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import ResultsError, TrustLLMError, one_line
from pytest_trustllm.formats import DrawnFrom, LabelLine, Results, SampleLine
from pytest_trustllm.labelling.session import Exchange, LabelItem
from pytest_trustllm.results.judge_correction import epoch_texts
from pytest_trustllm.results.label_draw import DrawnUnit
from pytest_trustllm.suites.samples import DataSource, open_data
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.verdict_rates import counted_label
from pytest_trustllm.types import Response, Sample


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was drawn, prepared for people.

    Attributes:
        items: In the order in which they are shown.
        by_rule: Lines of drawn responses that nobody has to be asked about: the provider blocked the prompt.
    """

    items: Sequence[LabelItem]
    by_rule: Sequence[LabelLine]


def prepare(
    results: Results,
    lines: Iterable[SampleLine],
    task: Task,
    drawn: Sequence[DrawnUnit],
    frame: str,
    samples: Mapping[str, Sample],
) -> Prepared:
    """Prepare drawn responses.

    Args:
        results: Of the run.
        lines: Of its samples file.
        task: Whose responses they are.
        drawn: The responses.
        frame: Hash of what they were drawn from.
        samples: Id -> sample with the data row, for a task with a judge; empty otherwise.

    Raises:
        ResultsError: The samples file lacks a response's texts, or the data has another row.
    """
    wanted = {one.unit.id for one in drawn}
    texts = {line["id"]: line for line in lines if line["task"] == task.id and line["id"] in wanted}
    items: list[LabelItem] = []
    by_rule: list[LabelLine] = []
    for one in drawn:
        line = texts.get(one.unit.id)
        responses = [] if line is None else epoch_texts(line, one.unit.epoch)
        if line is None or not responses:
            raise ResultsError(f"the samples file has no texts of {task.id}[{one.unit.id}]; run again")
        shown = [text for text in responses if text is not None]
        entry = _line(results, line, task, one, frame, shown)
        if len(shown) < len(responses):
            by_rule.append({**entry, "label": _label_of_verdict(task, one.unit.verdict), "by": "rule"})
            continue
        sample = _sample_of(one, task, samples)
        if sample is not None:
            entry["row"] = dict(sample.row)
        prompts = line.get("prompts", [])
        if len(prompts) != len(shown):
            raise ResultsError(f"{task.id}[{one.unit.id}] has {len(shown)} responses to {len(prompts)} prompts")
        exchanges: list[Exchange] = []
        for chat, text in zip(prompts, shown, strict=True):
            exchanges.append(Exchange([(role, content) for role, content in chat], text))
        question = None if sample is None else _judges_question(task, sample, shown)
        items.append(LabelItem(one.unit.key, tuple(exchanges), _expected(line, task), question, entry))
    return Prepared(items, by_rule)


def _expected(line: SampleLine, task: Task) -> str | None:
    """Return what a right answer looks like; None if that is a label, which people would be led to by it."""
    expected = line.get("expected")
    if expected is None or task.scorer.vocabulary.named(expected) is not None:
        return None
    return expected


def _line(
    results: Results, line: SampleLine, task: Task, drawn: DrawnUnit, frame: str, responses: Sequence[str]
) -> LabelLine:
    unit = drawn.unit
    source: DrawnFrom = {
        "run": results["run"]["id"],
        "frame": frame,
        "task": task.id,
        "role": task.scorer.roles[0],
        "version": task.version,
        "id": unit.id,
        "epoch": unit.epoch,
        "fingerprint": unit.fingerprint,
        "cluster": unit.cluster,
        "chance": drawn.chance,
    }
    chat = line.get("prompts", [[]])[0]
    entry: LabelLine = {"label": None, "prompt": "\n\n".join(content for _, content in chat), "drawn": source}
    if len(responses) == 1:
        entry["response"] = responses[0]
    elif responses:
        entry["responses"] = list(responses)
    return entry


def _label_of_verdict(task: Task, verdict: float) -> str:
    counted = counted_label(task)
    assert counted is not None  # noqa: S101 - only such tasks are labelled
    others = [label for label in task.scorer.vocabulary.labels if label != counted]
    return counted if verdict else others[0]


def _sample_of(drawn: DrawnUnit, task: Task, samples: Mapping[str, Sample]) -> Sample | None:
    if not samples:
        return None
    sample = samples.get(drawn.unit.id)
    if sample is None or sample.fingerprint != drawn.unit.fingerprint:
        raise ResultsError(f"{task.id}[{drawn.unit.id}] has another row in these data than in the run; give its --data")
    return sample


def _judges_question(task: Task, sample: Sample, responses: Sequence[str]) -> str | None:
    """Return what the judge was asked about responses; None if its scorer asked nothing."""
    try:
        step = task.scorer.score(sample, [Response(text=text) for text in responses])
        questions: Any = next(step, None) if isinstance(step, Generator) else None
    except TrustLLMError as e:
        raise ResultsError(f"{task.id}[{sample.id}]: {e}") from None
    if not questions:
        return None
    return "\n\n".join(content for _, content in questions[0].messages)


def samples_of_task(
    results: Results, task: Task, ids: Iterable[str], data: Path | None, root: Path
) -> dict[str, Sample]:
    """Return id -> sample with its data rows, of a task whose judge is shown fields of them.

    Args:
        results: Of the run.
        task: The task.
        ids: Of the samples.
        data: Value of ``--data``; None: where the run had its data from.
        root: The project.

    Raises:
        ResultsError: The data are not there.
    """
    try:
        source = _open(results, data, root)
        wanted = set(ids)
        return {entry.id: source.sample(task, entry) for entry in source.entries(task) if entry.id in wanted}
    except ResultsError:
        raise
    except TrustLLMError as e:
        raise ResultsError(f"the judge of {task.id} is shown fields of the data: {e}; name them with --data") from None


def _open(results: Results, data: Path | None, root: Path) -> DataSource:
    name = results["run"]["data"]["source"] if data is None else str(data)
    if name in ("sample", "full"):
        return open_data(name, root)
    path = Path(os.path.normpath(root / name))
    if not exists(path):
        raise ResultsError(f"{one_line(name, 200)}, the data of the run, is not here; name them with --data")
    return open_data(str(path), root)
