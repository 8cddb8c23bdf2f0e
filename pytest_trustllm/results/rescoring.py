"""Score the recorded responses of a saved run again, and find samples whose record contradicts itself."""

from __future__ import annotations

import math
import os.path
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.formats import ResponseEntry, Results, SampleLine, ScoreEntry
from pytest_trustllm.metrics.epochs import merged
from pytest_trustllm.models.refusal.builtin import BuiltinModel
from pytest_trustllm.suites.samples import DataSource, open_data
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import NOT_ASKED, Question, Request, Response, Sample, Score

_SHOWN = 3
_NOT_OF_RESPONSE = ("role", "epoch", "at")
_VERDICTS = "they follow from the recorded verdicts of a judge or another model"
_NOT_AGAIN = "they need more than the recorded texts"


@dataclass(frozen=True, slots=True)
class Rescoring:
    """What became of the scores of a saved run when its responses were scored again.

    Attributes:
        again: Samples whose scores were computed again.
        believed: Why scores could not be computed again -> how many samples.
        wrong: Sample -> what is wrong with its record.
    """

    again: int
    believed: Mapping[str, int]
    wrong: Mapping[str, str]

    def text(self) -> str:
        """Return it in one line."""
        if self.wrong:
            first = list(self.wrong.items())[:_SHOWN]
            shown = "; ".join(f"{one_line(name, 100)}: {why}" for name, why in first)
            more = f"; and {len(self.wrong) - _SHOWN} more" if len(self.wrong) > _SHOWN else ""
            return f"{len(self.wrong)} samples contradict their responses or themselves: {shown}{more}"
        text = f"of {self.again} samples computed again from their responses"
        for why, count in self.believed.items():
            text += f", {count} believed ({why})"
        return text


def rescored(results: Results, lines: Iterable[SampleLine], tasks: Sequence[Task], root: Path) -> Rescoring:
    """Score the responses of a samples file again where no model is needed for it.

    Args:
        results: The saved run.
        lines: Its samples file.
        tasks: All tasks, in the versions of the run.
        root: The project, for the data.
    """
    rows = _Rows(results, root)
    votes = results["run"].get("judge_votes", 1)
    classifier = _own_classifier(results)
    scoring: dict[str, list[Task]] = {}
    for task in tasks:
        scoring.setdefault(task.answers_from, []).append(task)
    asking = {task.id: task for task in tasks}
    wrong: dict[str, str] = {}
    believed: Counter[str] = Counter()
    again = 0
    for line in lines:
        name = f"{line['task']}[{line['id']}]"
        why = status_problem(line)
        if why is not None:
            wrong[name] = why
        if line["task"] not in asking:
            continue
        asked = asking[line["task"]]
        sample = rows.sample(asked, line)
        if isinstance(sample, str):
            believed[sample] += 1
            continue
        if votes > 1 and line.get("verdicts"):
            believed[_NOT_AGAIN] += 1
            continue
        recorded = _Recorded(line, classifier)
        problems = [_problem(task, sample, line, recorded) for task in scoring[asked.id]]
        for problem in problems:
            if problem is not None:
                wrong.setdefault(name, problem)
        if recorded.believed is None:
            again += 1
        else:
            believed[recorded.believed] += 1
    return Rescoring(again, believed, wrong)


def status_problem(line: SampleLine) -> str | None:
    """Return how the status of a sample contradicts its score; None if it does not."""
    status, value = line["status"], line["value"]
    if value is None and status in ("passed", "missed"):
        return f"status {status} without a value"
    if value is not None and status == "unscored" and not line.get("silent"):
        return f"status unscored, and the value {value:g}"
    if value is not None and not line.get("applies", True):
        return f"the task does not concern it, and it has the value {value:g}"
    return None


class _Rows:
    """The data rows of a run, task by task."""

    def __init__(self, results: Results, root: Path) -> None:
        self._source_name = results["run"]["data"]["source"]
        self._root = root
        self._source: DataSource | None = None
        self._samples: dict[str, dict[str, Sample] | None] = {}

    def sample(self, task: Task, line: SampleLine) -> Sample | str:
        """Return the sample of a record, or why its score cannot be computed again."""
        if task.is_conversation or "talks" in line:
            return "they are conversations"
        if task.id not in self._samples:
            self._samples[task.id] = self._read(task)
        samples = self._samples[task.id]
        sample = None if samples is None else samples.get(line["id"])
        if sample is None:
            return "their data are not here"
        if sample.fingerprint != line["fingerprint"]:
            return "their rows are other ones here"
        if sample.paraphrase is not None or sample.again is not None:
            return "their prompts came from a model"
        return sample

    def _read(self, task: Task) -> dict[str, Sample] | None:
        try:
            if self._source is None:
                name = self._source_name
                if name not in ("sample", "full"):
                    name = os.path.normpath(self._root / name)
                self._source = open_data(name, self._root)
            return {entry.id: self._source.sample(task, entry) for entry in self._source.entries(task)}
        except TrustLLMError:
            return None


class _Recorded:
    """What a sample's scorers are given: its replies, and the verdicts of other models.

    Attributes:
        believed: Why the score is not computed from the responses alone; None if it is.
    """

    def __init__(self, line: SampleLine, classifier: BuiltinModel | None) -> None:
        self.believed: str | None = None
        self._classifier = classifier
        self._line = line
        self._verdicts = [_response(entry) for entry in line.get("verdicts", ())]
        self._roles = [entry.get("role") for entry in line.get("verdicts", ())]

    def replies(self, epoch: int | None) -> list[Response]:
        entries: Sequence[ResponseEntry] = self._line.get("responses", ())
        return [_response(entry) for entry in entries if epoch is None or entry.get("epoch", 0) == epoch]

    def verdict(self, question: Question) -> Response | None:
        """Return the next recorded reply to a question; None if there is none.

        The classifier that ships with the package answers again.
        """
        if question.role not in self._roles:
            return NOT_ASKED if question.optional else None
        place = self._roles.index(question.role)
        self._roles.pop(place)
        recorded = self._verdicts.pop(place)
        if question.role == "refusal" and self._classifier is not None:
            return self._classifier.label(Request(question.messages, question.generation).text)
        self.believed = _VERDICTS
        return recorded


def _response(entry: ResponseEntry) -> Response:
    return Response.restored({key: value for key, value in entry.items() if key not in _NOT_OF_RESPONSE})


def _own_classifier(results: Results) -> BuiltinModel | None:
    """Return the refusal classifier of the package if the run had it, in this version."""
    model = BuiltinModel()
    recorded = results["run"]["roles"].get("refusal")
    if recorded is None:
        return None
    same = all(recorded.get(key) == model.info[key] for key in ("provider", "revision"))
    return model if same else None


def _problem(task: Task, sample: Sample, line: SampleLine, recorded: _Recorded) -> str | None:
    """Return how the recorded score of one task differs from what its scorer makes of the responses."""
    own = task.id == line["task"]
    entry: ScoreEntry | None = line if own else line["also"].get(task.id)
    if entry is None or line.get("cut"):
        return None
    if "epochs" in entry:
        wrong = _wrongly_merged(task, entry, line["status"] if own else None)
        if wrong is not None:
            return wrong
    for epoch, saved in _epochs(entry):
        score = _score(task, sample, recorded.replies(epoch), recorded)
        if score is None:
            recorded.believed = recorded.believed or _NOT_AGAIN
            return None
        found = None if score.value is None else float(score.value)
        if not _same(saved["value"], found):
            return f"{task.id} has the value {_shown(saved['value'])}, and its response gives {_shown(found)}"
        status = "passed" if score.met else "missed"
        judged = epoch is None and own and found is not None and line["status"] in ("passed", "missed")
        if judged and line["status"] != status:
            return f"status {line['status']}, and its response gives {status}"
        answer = None if score.answer is None else one_line(score.answer, 200)
        if found is not None and saved["answer"] != answer:
            return f"{task.id} read {one_line(repr(saved['answer']), 40)}, and now {one_line(repr(answer), 40)}"
    return None


def _wrongly_merged(task: Task, entry: ScoreEntry, status: str | None) -> str | None:
    """Return how the recorded score of a sample differs from what its epochs come to; None if it does not."""
    epochs = entry["epochs"]
    if not epochs or any(epoch["value"] is not None and "met" not in epoch for epoch in epochs):
        return f"{task.id} has epochs that do not say whether they met the target"
    whole = merged(epochs, task.reducer)
    if not _same(entry["value"], whole["value"]):
        return f"{task.id} has the value {_shown(entry['value'])}, and its epochs give {_shown(whole['value'])}"
    for key in ("answer", "observed", "parity"):
        if entry.get(key) != whole.get(key):
            return f"{task.id} has another {key} than its epochs give"
    found = "passed" if whole.get("met") else "missed"
    if whole["value"] is not None and status in ("passed", "missed") and status != found:
        return f"status {status}, and its epochs give {found}"
    return None


def _epochs(entry: ScoreEntry) -> Iterator[tuple[int | None, ScoreEntry]]:
    if "epochs" not in entry:
        yield None, entry
        return
    yield from enumerate(entry["epochs"])


def _score(task: Task, sample: Sample, replies: Sequence[Response], recorded: _Recorded) -> Score | None:
    """Return the score of responses; None if it needs more than what is recorded."""
    if any(reply.error is not None for reply in replies):
        return Score.none("no response")
    if any(reply.unanswered is not None for reply in replies):
        return None  # whether a blocked prompt counts is a setting of the run
    try:
        score: Any = task.scorer.score(sample, replies)
        if isinstance(score, Generator):
            score = _driven(score, recorded)
    except Exception:  # noqa: BLE001 - it is the user's own code; in the run, it failed the sample
        return None
    return score if isinstance(score, Score) else None


def _driven(scoring: Generator[Sequence[Question], Any, Score], recorded: _Recorded) -> Score | None:
    """Answer the questions of a scorer with the recorded verdicts."""
    verdicts: list[Response] | None = None
    while True:
        try:
            questions = scoring.send(verdicts)
        except StopIteration as end:
            score: Score | None = end.value
            return score
        found = [recorded.verdict(question) for question in questions]
        if any(verdict is None for verdict in found):
            return None
        verdicts = [verdict for verdict in found if verdict is not None]


def _same(saved: float | None, found: float | None) -> bool:
    if saved is None or found is None:
        return saved is found
    return math.isclose(saved, found, abs_tol=1e-12)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
