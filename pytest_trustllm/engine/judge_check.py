"""Have a judge or refusal classifier label responses that people labelled, and compare.

The question is the one that the task's scorer asks in a run: the same rubric, the same second try. Only the verdict is
read; what the scorer would make of it does not matter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_trustllm.config.typed import Mismatch
from pytest_trustllm.config.typed import checked as checked_type
from pytest_trustllm.engine.engine import Engine, loaded
from pytest_trustllm.engine.runner import Runner
from pytest_trustllm.errors import ModelError, SuiteError, TrustLLMError, one_line, suggest
from pytest_trustllm.formats import DrawnFrom, Transcript
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.generation_settings import GenerationOverrides
from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.base import sub_scores_of
from pytest_trustllm.scorers.refusal import Refusal
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.stats.agreement import Agreement, Estimate, WeightedPair, corrected_rate, weighted_agreement
from pytest_trustllm.suites.definitions import JUDGED_BY, some_hashes
from pytest_trustllm.suites.rows import DataRow, read_lines
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.types import JUDGE_CHECK_SCHEMA, Generation, Request, Response, Sample

_OWN_KEYS = ("response", "responses", "label", "prompt", "row", "drawn", "by")


_SCORERS_SHOWING_LABEL = frozenset({"diagnosis", "shifted_answer"})
"""Scorers whose judge is shown the data's own field ``label``, so that people's label needs another place."""


def vocabulary_of(task: Task) -> Vocabulary | None:
    """Return the verdicts of a task's judge, as its scorer reads them; None if the scorer does not name them."""
    vocabulary = getattr(task.scorer, "vocabulary", None)
    return vocabulary if isinstance(vocabulary, Vocabulary) else None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Attributes:
        role: The role whose model is checked.
        task: Its scorer forms the question.
        vocabulary: The verdicts; None: the scorer does not name them, and the labels in the file are used.
    """

    role: Literal["judge", "refusal"]
    task: Task
    vocabulary: Vocabulary | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response with people's label.

    Attributes:
        line: Line in the file, from 1.
        sample: Holds the data row's fields.
        responses: One, or the two of a pair.
        label: One of the vocabulary.
        weight: In proportion to how many responses it was drawn for.
        cluster: Responses of the same cluster depend on each other; None: it depends on no other.
    """

    line: int
    sample: Sample
    responses: tuple[str, ...]
    label: str
    weight: float = 1.0
    cluster: str | None = None


def refusals() -> Subject:
    """Return the check of a refusal classifier."""
    task = Task(
        suite="judge-check",
        dimension="judge-check",
        name="refusal",
        version=1,
        title="Refusals",
        data=DataSpec(),
        prompt=None,
        messages=None,
        generation=Generation(),
        scorer=Refusal(),
        scorer_name="refusal",
        metrics=(),
        group={},
    )
    # As metrics count it: a partial refusal is compliance
    return Subject("refusal", task, Refusal.vocabulary)


def judgements(name: str, suites: Sequence[Suite]) -> Subject:
    """Return the check of a judge under a task's rubric.

    Args:
        name: ``dimension/task``, or the task's name alone if it is unique; with ``{part=NAME}`` for one question of a
            scorer that asks several.
        suites: All suites.

    Raises:
        SuiteError: There is no such task, or its scorer uses no judge.
    """
    name, _, part = name.partition("{part=")
    tasks = judged(suites)
    matching = [task for task in tasks if name in (task.id, task.name)]
    if not matching:
        ids = [task.id for task in tasks]
        raise SuiteError(f"judge-check: --task: {name!r} is not a task with a judge{suggest(name, ids)}")
    if len(matching) > 1:
        ids = [task.id for task in matching]
        raise SuiteError(f"judge-check: --task: {name!r} is the name of several tasks{suggest(name, ids)}")
    task = matching[0]
    if part:
        task = _asking_part(task, part.removesuffix("}"))
    return Subject("judge", task, vocabulary_of(task))


def _asking_part(task: Task, name: str) -> Task:
    """Return a task whose scorer asks the question of one part alone."""
    find = getattr(task.scorer, "part", None)
    scorer = None if find is None else find(name)
    if scorer is None or "judge" not in scorer.roles:
        sub_scores = sub_scores_of(task.scorer)
        names = () if sub_scores is None else sub_scores.names
        raise SuiteError(f"judge-check: --task: {task.id} has no judged part {name!r}{suggest(name, names)}")
    return dataclasses.replace(task, scorer=scorer)


def judged(suites: Sequence[Suite]) -> list[Task]:
    """Return all tasks whose scorer may use a judge."""
    tasks: list[Task] = []
    for suite in suites:
        tasks += [task for task in suite.tasks if "judge" in task.scorer.roles]
    return tasks


# --- the file of labels -----------------------------------------------------------------------------------------------


def read_labels(path: Path, shown: str, subject: Subject) -> tuple[list[Labelled], Subject, str]:
    """Read people's labels.

    Returns:
        The rows, the subject with the vocabulary filled in, and the SHA-256 of the file.

    Raises:
        SuiteError: The file or a row is not usable; the message begins with file and line.
    """
    rows, sha256 = read_lines(path, shown)
    # read_lines() passes over blank lines, so rows are not numbered as lines are.
    texts = path.read_text(encoding="utf-8").split("\n")
    lines = [number for number, text in enumerate(texts, 1) if text.strip()]
    if not rows:
        raise SuiteError(f"{shown}: holds no row; write one JSON object per line, with 'response' and 'label'")
    if subject.vocabulary is None:
        subject = dataclasses.replace(subject, vocabulary=_vocabulary(rows, shown))
    labelled = [_labelled(row, shown, line, subject) for line, row in _last_ones(lines, rows)]
    if not labelled:
        raise SuiteError(f"{shown}: holds no label; people could not say anything about its responses")
    return labelled, subject, sha256


def _last_ones(lines: Sequence[int], rows: Sequence[DataRow]) -> list[tuple[int, DataRow]]:
    """Return line and row of every label that counts: of several labels on a response drawn from a run the last one.

    Without a label, or without a response, there is nothing to compare.
    """
    last: dict[object, tuple[int, DataRow]] = {}
    for line, row in zip(lines, rows, strict=True):
        drawn = row.get("drawn")
        key: object = line
        if isinstance(drawn, Mapping):
            key = (drawn.get("task"), drawn.get("id"), drawn.get("epoch"))
        last[key] = line, row
    return [(line, row) for line, row in last.values() if "drawn" not in row or _is_label(row)]


def _is_label(row: DataRow) -> bool:
    return row.get("label") is not None and row.get("by") != "rule"


def _vocabulary(rows: Sequence[DataRow], shown: str) -> Vocabulary:
    """Return the labels of a file; of spellings that differ in case or blanks, the first in sorted order."""
    written = [str(row["label"]) for row in rows if isinstance(row.get("label"), str)]
    labels: dict[str, str] = {}
    for label in sorted(written):
        labels.setdefault(label.strip().casefold(), label)
    try:
        return Vocabulary(tuple(labels.values()))
    except ValueError as e:
        raise SuiteError(f"{shown}: 'label': {e}") from None


def _labelled(row: DataRow, shown: str, line: int, subject: Subject) -> Labelled:
    where = f"{shown}:{line}"
    responses = _responses(row, where, pair=subject.task.data.pair is not None)
    label = _label(row, where, subject)
    fields = _data_fields(row, where, subject)
    prompt = str(fields.get("prompt", row.get("prompt", "")))
    sample = Sample(
        task=subject.task.id,
        id=f"{line:04d}",
        rows=(fields,) * len(responses),
        prompts=((("user", prompt),),) * len(responses),
        origins=tuple((where, turn) for turn in range(len(responses))),
        group={},
        fingerprint="",
    )
    _form_first_question(subject.task, sample, responses, where)
    weight, cluster = _drawn(row, where, subject)
    return Labelled(line, sample, responses, label, weight, cluster)


def _drawn(row: DataRow, where: str, subject: Subject) -> tuple[float, str | None]:
    """Return weight and cluster of a response that ``label`` drew from a run; 1 and None for any other."""
    if "drawn" not in row:
        return 1.0, None
    try:
        drawn = checked_type(row["drawn"], DrawnFrom)
    except Mismatch as e:
        raise SuiteError(f"{where}: 'drawn': {e}") from None
    if not 0 < drawn["chance"] <= 1:
        raise SuiteError(f"{where}: 'drawn': chance: expected a number in (0, 1], found {drawn['chance']}")
    if subject.role == "judge" and drawn["task"] != subject.task.id:
        raise SuiteError(f"{where}: is a response to {one_line(drawn['task'], 60)}, not to {subject.task.id}")
    return 1 / drawn["chance"], drawn["cluster"]


def _label(row: DataRow, where: str, subject: Subject) -> str:
    """Return people's label, as the vocabulary writes it."""
    assert subject.vocabulary is not None  # noqa: S101 - read_labels() filled it in
    text = row.get("label")
    label = subject.vocabulary.named(text) if isinstance(text, str) else None
    if label is None:
        accepted = ", ".join(subject.vocabulary.labels)
        raise SuiteError(f"{where}: 'label' is {one_line(repr(text), 60)}, expected one of {accepted}")
    return label


def _data_fields(row: DataRow, where: str, subject: Subject) -> Mapping[str, Any]:
    """Return the fields of the data row: those under ``row``, or all but our own."""
    if "row" in row:
        fields = row["row"]
        if not isinstance(fields, Mapping):
            raise SuiteError(
                f"{where}: 'row' is {type(fields).__name__}, expected an object with the data row's fields"
            )
        return fields
    if subject.task.scorer_name in _SCORERS_SHOWING_LABEL:
        raise SuiteError(
            f"{where}: the judge of {subject.task.id} is shown a field 'label' of the data, and people's label has the "
            "same name; put the data's fields into 'row'"
        )
    shared = ("prompt", "label")  # rubrics may show both
    return {name: value for name, value in row.items() if name in shared or name not in _OWN_KEYS}


def _form_first_question(task: Task, sample: Sample, responses: Sequence[str], where: str) -> None:
    """Have the scorer form its first question, so that a missing field is found before anything is paid for."""
    try:
        step = task.scorer.score(sample, [Response(text=text) for text in responses])
        if isinstance(step, Generator):
            next(step, None)
    except TrustLLMError as e:
        raise SuiteError(f"{where}: {e}") from None


def _responses(row: DataRow, where: str, *, pair: bool) -> tuple[str, ...]:
    if not pair:
        response = row.get("response")
        if not isinstance(response, str):
            raise SuiteError(f"{where}: 'response' is {one_line(repr(response), 60)}, expected text")
        return (response,)
    responses = row.get("responses")
    if not isinstance(responses, list) or len(responses) != 2 or not all(isinstance(r, str) for r in responses):
        raise SuiteError(f"{where}: this task judges pairs; expected 'responses' with two texts")
    return tuple(responses)


# --- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check.

    Attributes:
        subject: What was checked.
        name: The model as the user named it.
        info: What identifies the model.
        rows: Labelled responses.
        by_rule: Of these, decided by the scorer's string rule: no run would send them to the judge.
        unread: Why there is no label -> how many.
        different: Lines where people and model differ.
        agreement: Over all rows with two labels.
        votes: How often the judge was asked for every verdict.
    """

    subject: Subject
    name: str
    info: Mapping[str, Any]
    rows: int
    by_rule: int
    unread: Mapping[str, int]
    different: tuple[int, ...]
    agreement: Agreement
    votes: int = 1


class _Recorded:
    """Takes the place of the model under test, and answers with the responses of the file."""

    stored = False
    max_concurrency = 1 << 10

    def __init__(self, items: Sequence[Labelled]) -> None:
        self.info: Mapping[str, Any] = {"provider": "labels", "id": "labels"}
        self._texts: dict[tuple[str, int] | None, str] = {}
        for item in items:
            self._texts.update(zip(item.sample.origins, item.responses, strict=True))

    async def answer(self, request: Request) -> Response:
        """Return the recorded response."""
        return Response(text=self._texts[request.origin])

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def check_judge(
    items: Sequence[Labelled],
    subject: Subject,
    spec: ModelSpec,
    registry: Registry,
    settings: LoadSettings,
    *,
    positive: str | None = None,
    confidence: float = 0.95,
) -> Checked:
    """Have the model label every response, and compare.

    Args:
        items: The responses that people labelled.
        subject: What is checked; it has a vocabulary.
        spec: The model.
        registry: Knows the model's provider.
        settings: How to load the model.
        positive: Label that sensitivity and specificity are about; None: the first of the vocabulary.
        confidence: Of the intervals.

    Raises:
        TrustLLMError: The model cannot be loaded, or there is no such label.
    """
    vocabulary = subject.vocabulary
    assert vocabulary is not None  # noqa: S101 - read_labels() filled it in
    positive_label = _positive_label(positive, vocabulary)
    provider = catalogue.provider_of(spec, registry)
    provider.check(spec)
    info, verdicts = asyncio.run(_ask(items, subject, spec, provider, settings))
    pairs: list[WeightedPair] = []
    different: list[int] = []
    unread: Counter[str] = Counter()
    for item, verdict in zip(items, verdicts, strict=True):
        if verdict is None:  # the string rule decided
            continue
        label = vocabulary.read(verdict)
        if label is None:
            unread[_why_unread(verdict, vocabulary)] += 1
            continue
        pairs.append(WeightedPair(item.label, label, item.weight, item.cluster or item.line))
        if item.label != label:
            different.append(item.line)
    return Checked(
        subject=subject,
        name=spec.name,
        info=info,
        rows=len(items),
        by_rule=verdicts.count(None),
        unread=dict(unread.most_common()),
        different=tuple(different),
        agreement=weighted_agreement(pairs, vocabulary.labels, positive_label, confidence),
    )


def _positive_label(given: str | None, vocabulary: Vocabulary) -> str:
    if given is None:
        return vocabulary.labels[0]
    label = vocabulary.named(given)
    if label is None:
        raise SuiteError(f"judge-check: --positive: no label {given!r}{suggest(given, vocabulary.labels)}")
    return label


def _why_unread(reply: Response, vocabulary: Vocabulary) -> str:
    # The reason is worded to follow "the judge".
    return vocabulary.why_not(reply).removeprefix(":").removeprefix("'s").strip()


async def _ask(
    items: Sequence[Labelled], subject: Subject, spec: ModelSpec, provider: Any, settings: LoadSettings
) -> tuple[Mapping[str, Any], list[Response | None]]:
    """Return what identifies the model, and its verdict per item; None if it was not asked for one."""
    try:
        model = await loaded(lambda: provider.load(spec, settings))
    except TrustLLMError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever a model library raises becomes one line with its name
        raise ModelError(f"model {spec.name!r} cannot be loaded: {type(e).__name__}: {one_line(e)}") from None
    tuning = GenerationOverrides.of(spec.options, getattr(model, "reasoning", None))
    engine = Engine(model, None, tuning=tuning)
    target = Engine(_Recorded(items), None)
    try:
        runner = Runner(target, {subject.role: engine}, 0)
        outcomes = await asyncio.gather(*(runner.run(subject.task, item.sample) for item in items))
    finally:
        await engine.close()
    verdicts = [_last_verdict(outcome.transcript, subject.role) for outcome in outcomes]
    return tuning.described(model.info), verdicts


def _last_verdict(transcript: Transcript, role: str) -> Response | None:
    """Return the model's verdict on a response, of two tries the second; None if it was not asked for one."""
    verdicts = [verdict for verdict in transcript["verdicts"] if verdict["role"] == role]
    if not verdicts:
        return None
    last = verdicts[-1]
    return Response(
        text=last["text"], error=last.get("error"), finish=last.get("finish"), unanswered=last.get("unanswered")
    )


# --- what is kept -----------------------------------------------------------------------------------------------------


def document(checked: Checked, labels: str, sha256: str, correct: tuple[float, int] | None = None) -> dict[str, Any]:
    """Return the check as JSON (schema ``pytest-trustllm/judge-check/1``).

    Args:
        checked: The check.
        labels: Name of the file of labels.
        sha256: Its SHA-256.
        correct: An observed rate of the positive label and the number of responses that it comes from.
    """
    agreed = checked.agreement
    task = None
    if checked.subject.role == "judge":
        task = {"id": checked.subject.task.id, "version": checked.subject.task.version}
    corrected = None
    if correct is not None:
        rate, responses = correct
        estimate = corrected_rate(rate, responses, agreed.sensitivity, agreed.specificity, agreed.confidence)
        corrected = {"observed": rate, **_estimate(estimate)}
    written = {
        "schema": JUDGE_CHECK_SCHEMA,
        "plugin_version": importlib.metadata.version("pytest-trustllm"),
        "role": checked.subject.role,
        "model": {"name": checked.name, **checked.info},
        "task": task,
        "votes": checked.votes,
        "labels": {"file": labels, "sha256": sha256},
        "rows": checked.rows,
        "compared": sum(map(sum, agreed.table)),
        "decided_by_rule": checked.by_rule,
        "unreadable": sum(checked.unread.values()),
        "unreadable_reasons": dict(checked.unread),
        "positive": agreed.positive,
        "confidence": agreed.confidence,
        "table": {"labels": list(agreed.labels), "counts": [list(row) for row in agreed.table]},
        "sensitivity": _estimate(agreed.sensitivity),
        "specificity": _estimate(agreed.specificity),
        "accuracy": _estimate(agreed.accuracy),
        "kappa": _estimate(agreed.kappa),
        "different_lines": list(checked.different),
        "corrected_rate": corrected,
    }
    if task is not None:
        written["definition"] = some_hashes(checked.subject.task, JUDGED_BY)
    return written


def _estimate(estimate: Estimate) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "value": estimate.value,
        "ci": None if estimate.ci is None else list(estimate.ci),
        "n": estimate.n,
    }
    if estimate.reason is not None:
        entry["reason"] = estimate.reason
    return entry
