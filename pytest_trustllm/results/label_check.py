"""What people's labels on responses of a run say about the verdicts that the run has on them; no model is asked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import DrawnLabels, GivenLabel, LabelLine, Record, Results, SampleLine
from pytest_trustllm.metrics.observations import epochs_of, observed_by_task
from pytest_trustllm.results.judge_check_file import data_of
from pytest_trustllm.results.judge_correction import epoch_texts, response_hash
from pytest_trustllm.results.label_draw import JudgedUnit, frame_digest, judged_units
from pytest_trustllm.results.label_file import NumberedLine, UnitKey, last_labels, read_label_file
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.stats.agreement import WeightedPair
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.verdict_rates import counted_label


@dataclass(frozen=True, slots=True)
class ComparedLabels:
    """People's labels beside the verdicts of a run.

    Attributes:
        rows: Responses that people have seen to.
        by_rule: Of these, decided by a rule, so that nobody was asked.
        pairs: Label and verdict of every other one that has a label, weighted by how many responses it was drawn for.
        different: Lines of the file where the two differ.
        drawn: What a check keeps of the labels.
        sha256: Of the file.
    """

    rows: int
    by_rule: int
    pairs: Sequence[WeightedPair]
    different: tuple[int, ...]
    drawn: DrawnLabels
    sha256: str


def labelled_task(path: Path, tasks: Iterable[Task]) -> tuple[Task, list[NumberedLine]]:
    """Return the task whose responses were labelled, and the lines of the file.

    Raises:
        ResultsError: The file is not one that ``label`` writes, or is about several tasks or an unknown one.
    """
    lines = read_label_file(path)
    if not lines:
        raise ResultsError(f"{path}: holds no label; 'pytest-trustllm label' writes some")
    ids = {line.line["drawn"]["task"] for line in lines}
    for task in tasks:
        if {task.id} == ids and counted_label(task) is not None:
            return task, lines
    names = ", ".join(one_line(id_, 60) for id_ in sorted(ids))
    raise ResultsError(f"{path}: expected responses to one task of the run that has verdicts, found {names}")


def compare_labels(
    path: Path,
    lines: Sequence[NumberedLine],
    task: Task,
    results: Results,
    records: Sequence[Record],
    texts: Iterable[SampleLine],
    root: Path,
) -> ComparedLabels:
    """Compare labels with verdicts.

    Args:
        path: Of the labels, for messages.
        lines: Of that file.
        task: Whose responses were labelled.
        results: Of the run.
        records: Of the run.
        texts: The lines of its samples file.
        root: Data files of the project are named relative to it.

    Raises:
        ResultsError: The labels are about other responses, other verdicts or another version of the task.
    """
    own_records = [record for record in records if record["task"] == task.id]
    units = judged_units(observed_by_task(own_records).get(task.id, ()))
    frame = frame_digest(units)
    last = last_labels(lines)
    hashes = _hashes(task, {id_ for id_, _ in last}, texts)
    for key, numbered in last.items():
        _check(f"{path}:{numbered.number}", numbered.line, task, frame, hashes.get(key))
    verdicts = _verdict_labels(task, own_records, units)
    drawn: DrawnLabels = {
        "run": results["run"]["id"],
        "frame": frame,
        "responses": len(units),
        "data": data_of(task, results["run"]["data"], root),
        "undecided": sum(numbered.line["label"] is None for numbered in last.values()),
        "labels": _given_labels(last, task, hashes),
    }
    pairs: list[WeightedPair] = []
    different: list[int] = []
    weights = _weights(units, {(label["id"], label["epoch"]) for label in drawn["labels"]})
    clusters = {unit.key: unit.cluster for unit in units}
    for key, numbered in last.items():
        label = _named(numbered.line, task)
        if label is None or numbered.line.get("by") == "rule":
            continue
        pairs.append(WeightedPair(label, verdicts[key], weights[key], clusters[key]))
        if label != verdicts[key]:
            different.append(numbered.number)
    by_rule = sum(numbered.line.get("by") == "rule" for numbered in last.values())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return ComparedLabels(len(last), by_rule, pairs, tuple(sorted(different)), drawn, sha256)


def _hashes(task: Task, ids: set[str], texts: Iterable[SampleLine]) -> dict[UnitKey, str]:
    hashes: dict[UnitKey, str] = {}
    for line in texts:
        if line["task"] == task.id and line["id"] in ids:
            for epoch in {entry.get("epoch", 0) for entry in line.get("responses", ())}:
                hashes[line["id"], epoch] = response_hash(epoch_texts(line, epoch))
    return hashes


def _check(where: str, line: LabelLine, task: Task, frame: str, hash_: str | None) -> None:
    drawn = line["drawn"]
    if drawn["version"] != task.version:
        raise ResultsError(
            f"{where}: is about version {drawn['version']} of {task.id}, and the run has version {task.version}"
        )
    if drawn["frame"] != frame:
        raise ResultsError(
            f"{where}: was drawn from other responses or verdicts than those of this run; label responses of this run"
        )
    responses: list[str | None] = [line["response"]] if "response" in line else list(line.get("responses", ()))
    if line.get("by") != "rule" and response_hash(responses) != hash_:
        raise ResultsError(f"{where}: the response is not that of {task.id}[{one_line(drawn['id'], 40)}] in this run")
    if line["label"] is not None and _named(line, task) is None:
        accepted = ", ".join(task.scorer.vocabulary.labels)
        raise ResultsError(f"{where}: 'label' is {one_line(repr(line['label']), 60)}, expected one of {accepted}")


def _named(line: LabelLine, task: Task) -> str | None:
    """Return people's label as the vocabulary writes it; None if they could not say."""
    vocabulary: Vocabulary = task.scorer.vocabulary
    return None if line["label"] is None else vocabulary.named(line["label"])


def _given_labels(last: Mapping[UnitKey, NumberedLine], task: Task, hashes: Mapping[UnitKey, str]) -> list[GivenLabel]:
    counted = counted_label(task)
    given: list[GivenLabel] = []
    for key, numbered in sorted(last.items()):
        label = _named(numbered.line, task)
        if label is not None:
            id_, epoch = key
            given.append({"id": id_, "epoch": epoch, "response": hashes[key], "label": float(label == counted)})
    return given


def _weights(units: Sequence[JudgedUnit], labelled: set[UnitKey]) -> dict[UnitKey, float]:
    """Return how many responses each labelled one stands for: the responses with its verdict over the labels on them.

    That is 1 / chance when all drawn responses are labelled, and right if only some are, since their order is random.
    """
    sizes = Counter(unit.verdict for unit in units)
    labels = Counter(unit.verdict for unit in units if unit.key in labelled)
    return {unit.key: sizes[unit.verdict] / labels[unit.verdict] for unit in units if unit.key in labelled}


def _verdict_labels(task: Task, records: Sequence[Record], units: Sequence[JudgedUnit]) -> dict[UnitKey, str]:
    """Return the label that the judge gave to every response.

    A record has it as the answer, unless its scorer words that for people. Then a verdict that is not counted is the
    first other label.
    """
    vocabulary: Vocabulary = task.scorer.vocabulary
    counted = counted_label(task)
    others = [label for label in vocabulary.labels if label != counted]
    answers: dict[UnitKey, str | None] = {}
    for record in records:
        for epoch, score in enumerate(epochs_of(record)):
            answers[record["id"], epoch] = score["answer"]
    labels: dict[UnitKey, str] = {}
    for unit in units:
        named = vocabulary.named(answers[unit.key] or "")
        if named is None or (named == counted) != bool(unit.verdict):
            named = counted if unit.verdict else others[0]
        assert named is not None  # noqa: S101 - the task counts a label
        labels[unit.key] = named
    return labels
