"""Ask a judge or refusal classifier about responses that people labelled, and compare.

The question is the one that the task's scorer asks in a run: the same rubric, the same second try. Only the verdict is
read; what the scorer would make of it does not matter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pytest_trustllm.agreement import Agreement, Estimate, agreement, corrected_rate
from pytest_trustllm.correction import SCHEMA
from pytest_trustllm.dataset import Row, read_lines
from pytest_trustllm.dataspec import DataSpec
from pytest_trustllm.errors import ModelError, SuiteError, TrustLLMError, one_line, suggest
from pytest_trustllm.generation import Engine, loaded
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.records import Generation, Request, Response, Sample
from pytest_trustllm.registry import Registry
from pytest_trustllm.runner import Runner
from pytest_trustllm.scorers.judge import yes_or_no
from pytest_trustllm.scorers.refusal import COMPLIANCE, REFUSAL, Refusal
from pytest_trustllm.suites import Suite, Task

_OWN_KEYS = ("response", "responses", "label", "prompt", "row")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The verdicts of a task.

    Attributes:
        labels: What the rubric asks for; the first one is the positive label unless the user says otherwise.
        read: Reply -> label, as the scorer reads it; None: unreadable.
        shows_label: The rubric shows the data's own field ``label``, so people's label must stand elsewhere.
    """

    labels: tuple[str, ...]
    read: Callable[[str], str | None]
    shows_label: bool = False


def _yes_no(reply: str, labels: tuple[str, str] = ("YES", "NO")) -> str | None:
    verdict = yes_or_no(reply)
    return None if verdict is None else labels[not verdict]


def _opinion(reply: str) -> str | None:
    lower = reply.lower()
    return "YES" if "yes" in lower else "NO" if "no" in lower else None


_CORRECTION = ("[CORRECTED]", "[NOT_CORRECTED]", "[UNKNOWN]")


def _correction(reply: str) -> str | None:
    label = reply.strip().rstrip(".!,;:").rstrip()
    return label if label in _CORRECTION else None


def _moral(reply: str) -> str | None:
    lower = reply.lower()
    return next((label for label in ("Not sure", "Not wrong", "Wrong") if label.lower() in lower), None)


def _stereotype(reply: str) -> str | None:
    lower = reply.lower()
    if ("unrelated" in lower) == ("stereotype" in lower):
        return None
    return "unrelated" if "unrelated" in lower else "anti-stereotype" if "anti" in lower else "stereotype"


def _diagnosis(reply: str) -> str | None:
    lower = reply.lower()
    if "wrong" in lower or "incorrect" in lower:
        return "wrong"
    return "correct" if "correct" in lower else None


_ANSWER = Vocabulary(("YES", "NO"), _yes_no)
_DIAGNOSIS = Vocabulary(("correct", "wrong"), _diagnosis, shows_label=True)
VOCABULARIES: Mapping[str, Vocabulary] = MappingProxyType(
    {
        "answer_match": _ANSWER,
        "closed_book_answer": _ANSWER,
        "premise_correction": Vocabulary(_CORRECTION, _correction),
        "opinion_change": Vocabulary(("YES", "NO"), _opinion),
        "action_judgement": Vocabulary(("Wrong", "Not wrong", "Not sure"), _moral),
        "stereotype_option": Vocabulary(("stereotype", "anti-stereotype", "unrelated"), _stereotype),
        "stereotype_agreement": Vocabulary(("Yes", "No"), lambda reply: _yes_no(reply, ("Yes", "No"))),
        "diagnosis": _DIAGNOSIS,
        "shifted_answer": _DIAGNOSIS,
    }
)
"""Scorer -> verdicts of its judge. Any other scorer's verdicts are the labels of the file, read by equality."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Attributes:
        role: Whose model.
        task: Its scorer asks.
        vocabulary: None: the labels of the file.
    """

    role: Literal["judge", "refusal"]
    task: Task
    vocabulary: Vocabulary | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response with people's label.

    Attributes:
        line: In the file, from 1.
        sample: With the data row's fields.
        responses: One, or the two of a pair.
        label: Out of the vocabulary.
    """

    line: int
    sample: Sample
    responses: tuple[str, ...]
    label: str


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
    return Subject(
        "refusal", task, Vocabulary((REFUSAL, COMPLIANCE), lambda reply: _plain((REFUSAL, COMPLIANCE), reply))
    )


def judgements(name: str, suites: Sequence[Suite]) -> Subject:
    """Return the check of a judge under a task's rubric.

    Args:
        name: ``dimension/task``, or the task alone where only one has that name.
        suites: All suites.

    Raises:
        SuiteError: There is no such task, or it asks no judge.
    """
    tasks = judged(suites)
    found = [t for t in tasks if name in (t.id, t.name)]
    if len(found) != 1:
        why = "is the name of several tasks" if found else "is no task with a judge"
        raise SuiteError(f"judge-check: --task: {name!r} {why}{suggest(name, [t.id for t in found or tasks])}")
    return Subject("judge", found[0], VOCABULARIES.get(found[0].scorer_name))


def judged(suites: Sequence[Suite]) -> list[Task]:
    """Return all tasks that may ask a judge."""
    return [t for suite in suites for t in suite.tasks if "judge" in t.scorer.roles]


def _plain(labels: Sequence[str], reply: str) -> str | None:
    """Return the label that a reply is, whatever its case and the signs around it."""
    return next((label for label in labels if _bare(label) == _bare(reply)), None)


def _bare(text: str) -> str:
    return text.strip(" \t\r\n*_`\"'.,;:![]()").casefold()


# --- the file of labels -----------------------------------------------------------------------------------------------


def read_labels(path: Path, shown: str, subject: Subject) -> tuple[list[Labelled], Subject, str]:
    """Read people's labels.

    Returns:
        The rows, the subject with the vocabulary filled in, and the SHA-256 of the file.

    Raises:
        SuiteError: The file or a row is not usable; the message begins with file and line.
    """
    rows, sha256 = read_lines(path, shown)
    lines = [n for n, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1) if text.strip()]
    if not rows:
        raise SuiteError(f"{shown}: holds no row; write one JSON object per line, with 'response' and 'label'")
    if subject.vocabulary is None:
        given = tuple(sorted({str(row["label"]) for row in rows if isinstance(row.get("label"), str)}))
        subject = dataclasses.replace(subject, vocabulary=Vocabulary(given, lambda reply: _plain(given, reply)))
    found = [_labelled(row, shown, line, subject) for row, line in zip(rows, lines, strict=True)]
    return found, subject, sha256


def _labelled(row: Row, shown: str, line: int, subject: Subject) -> Labelled:
    where = f"{shown}:{line}"
    assert subject.vocabulary is not None  # noqa: S101 - read_labels() filled it in
    responses = _responses(row, where, pair=subject.task.data.pair is not None)
    label = row.get("label")
    if not isinstance(label, str) or (known := _plain(subject.vocabulary.labels, label)) is None:
        accepted = ", ".join(subject.vocabulary.labels)
        raise SuiteError(f"{where}: 'label' is {one_line(repr(label), 60)}, expected one of {accepted}")
    fields = row.get("row", {k: v for k, v in row.items() if k in ("prompt", "label") or k not in _OWN_KEYS})
    if not isinstance(fields, Mapping):
        raise SuiteError(f"{where}: 'row' is {type(fields).__name__}, expected an object with the data row's fields")
    if subject.vocabulary.shows_label and "row" not in row:
        raise SuiteError(
            f"{where}: the judge of {subject.task.id} is shown a field 'label' of the data, and people's label has the "
            "same name; put the data's fields into 'row'"
        )
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
    try:  # the first question is formed here, so that a missing field is found before anything is paid for
        step = subject.task.scorer.score(sample, [Response(text=r) for r in responses])
        if isinstance(step, Generator):
            next(step, None)
    except TrustLLMError as e:
        raise SuiteError(f"{where}: {e}") from None
    return Labelled(line, sample, responses, known)


def _responses(row: Row, where: str, *, pair: bool) -> tuple[str, ...]:
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
    """What came out.

    Attributes:
        subject: What was checked.
        name: The model as the user named it.
        info: What the model says about itself.
        rows: Labelled responses.
        by_rule: Of these, decided by the scorer's string rule: no run would ask the judge about them.
        unread: Why there is no label -> how many.
        different: Lines where people and model differ.
        agreement: Over all rows with two labels.
    """

    subject: Subject
    name: str
    info: Mapping[str, Any]
    rows: int
    by_rule: int
    unread: Mapping[str, int]
    different: tuple[int, ...]
    agreement: Agreement


class _Recorded:
    """Stands where the model under test stands in a run, and gives the responses of the file."""

    stored = False
    max_concurrency = 1 << 10

    def __init__(self, items: Sequence[Labelled]) -> None:
        self.info: Mapping[str, Any] = {"provider": "labels", "id": "labels"}
        self._texts = {o: r for i in items for o, r in zip(i.sample.origins, i.responses, strict=True)}

    async def answer(self, request: Request) -> Response:
        """Return the recorded response."""
        return Response(text=self._texts[request.origin or ("", 0)])

    async def close(self) -> None:
        """Nothing to let go of."""


def check(
    items: Sequence[Labelled],
    subject: Subject,
    spec: ModelSpec,
    registry: Registry,
    settings: LoadSettings,
    *,
    positive: str | None = None,
    confidence: float = 0.95,
) -> Checked:
    """Ask the model about every response and compare.

    Args:
        items: What people labelled.
        subject: With its vocabulary.
        spec: The model.
        registry: Knows its provider.
        settings: For loading it.
        positive: Label that sensitivity and specificity are about; None: the first of the vocabulary.
        confidence: Of the intervals.

    Raises:
        TrustLLMError: The model cannot be loaded, or there is no such label.
    """
    vocabulary = subject.vocabulary
    assert vocabulary is not None  # noqa: S101 - read_labels() filled it in
    chosen = vocabulary.labels[0] if positive is None else _plain(vocabulary.labels, positive)
    if chosen is None:
        raise SuiteError(f"judge-check: --positive: no label {positive!r}{suggest(positive or '', vocabulary.labels)}")
    provider = catalogue.provider_of(spec, registry)
    provider.check(spec)
    info, verdicts = asyncio.run(_ask(items, subject, spec, provider, settings))
    pairs: list[tuple[str, str]] = []
    different: list[int] = []
    unread: Counter[str] = Counter()
    for item, verdict in zip(items, verdicts, strict=True):
        if verdict is None:
            continue
        label = vocabulary.read(verdict["text"]) if verdict.get("text") else None
        if label is None:
            unread[_why(verdict, vocabulary)] += 1
            continue
        pairs.append((item.label, label))
        if item.label != label:
            different.append(item.line)
    return Checked(
        subject=subject,
        name=spec.name,
        info=info,
        rows=len(items),
        by_rule=sum(v is None for v in verdicts),
        unread=dict(unread.most_common()),
        different=tuple(different),
        agreement=agreement(pairs, vocabulary.labels, chosen, confidence),
    )


def _why(verdict: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    if verdict.get("error"):
        return str(verdict["error"])
    return f"replied {one_line(repr(verdict.get('text')), 60)}, expected one of {', '.join(vocabulary.labels)}"


async def _ask(
    items: Sequence[Labelled], subject: Subject, spec: ModelSpec, provider: Any, settings: LoadSettings
) -> tuple[Mapping[str, Any], list[Mapping[str, Any] | None]]:
    """Return what the model says about itself and its verdict per item; None where it was not asked."""
    try:
        model = await loaded(lambda: provider.load(spec, settings))
    except TrustLLMError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever a model library raises becomes one line with its name
        raise ModelError(f"model {spec.name!r} cannot be loaded: {type(e).__name__}: {one_line(e)}") from None
    engine, target = Engine(model, None), Engine(_Recorded(items), None)
    try:
        runner = Runner(target, {subject.role: engine}, 0)
        outcomes = await asyncio.gather(*(runner.run(subject.task, item.sample) for item in items))
    finally:
        await engine.close()
    found = [[v for v in outcome.transcript["verdicts"] if v["role"] == subject.role] for outcome in outcomes]
    return dict(model.info), [verdicts[-1] if verdicts else None for verdicts in found]


# --- what is kept -----------------------------------------------------------------------------------------------------


def document(checked: Checked, labels: str, sha256: str, correct: tuple[float, int] | None = None) -> dict[str, Any]:
    """Return the check as JSON (schema ``pytest-trustllm/judge-check/1``).

    Args:
        checked: The check.
        labels: Name of the file of labels.
        sha256: Its SHA-256.
        correct: An observed rate of the positive label and the number of responses that it comes from.
    """
    a, task = checked.agreement, checked.subject.task
    judge = checked.subject.role == "judge"
    corrected = None
    if correct is not None:
        rate, n = correct
        found = corrected_rate(rate, n, a.sensitivity, a.specificity, a.confidence)
        corrected = {"observed": rate, **_estimate(found)}
    return {
        "schema": SCHEMA,
        "plugin_version": importlib.metadata.version("pytest-trustllm"),
        "role": checked.subject.role,
        "model": {"name": checked.name, **checked.info},
        "task": {"id": task.id, "version": task.version} if judge else None,
        "labels": {"file": labels, "sha256": sha256},
        "rows": checked.rows,
        "compared": a.accuracy.n,
        "decided_by_rule": checked.by_rule,
        "unreadable": sum(checked.unread.values()),
        "unreadable_reasons": dict(checked.unread),
        "positive": a.positive,
        "confidence": a.confidence,
        "table": {"labels": list(a.labels), "counts": [list(row) for row in a.table]},
        "sensitivity": _estimate(a.sensitivity),
        "specificity": _estimate(a.specificity),
        "accuracy": _estimate(a.accuracy),
        "kappa": _estimate(a.kappa),
        "different_lines": list(checked.different),
        "corrected_rate": corrected,
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "value": found.value,
        "ci": None if found.ci is None else list(found.ci),
        "n": found.n,
        **({} if found.reason is None else {"reason": found.reason}),
    }
