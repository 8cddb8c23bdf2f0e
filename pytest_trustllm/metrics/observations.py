"""The samples of a run as metrics see them: records turned into observations, in both readings, epoch by epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_trustllm.formats import Record, ScoreEntry
from pytest_trustllm.metrics.base import Observation
from pytest_trustllm.types import BLOCKED, RAISES, SubScores

Scoring = Literal["value", "parity"]
"""Which reading: the corrected one, or that of the authors' toolkit."""


@dataclass(frozen=True, slots=True)
class ObservedSample:
    """One sample of one task after the run.

    Attributes:
        id: Of the sample.
        fingerprint: Of the sample; empty if it could not be made.
        cluster: Samples of the same cluster depend on each other.
        group: Group name -> value.
        applies: The task concerns the sample in at least one epoch.
        scored: Every epoch that the task concerns has a score.
        answered: Every epoch has a response. A score without a response comes from a rule (a missing answer counts as
            wrong).
        corrected: One observation per epoch that the task concerns; empty unless ``scored``.
        by_rule: For each of these, whether the provider blocked the prompt, so that a rule gave the score and no judge.
        parity: Observations in the authors' toolkit's reading; None if the toolkit raises an error.
    """

    id: str
    fingerprint: str
    cluster: str
    group: Mapping[str, str]
    applies: bool
    scored: bool
    answered: bool
    corrected: tuple[Observation, ...]
    parity: tuple[Observation, ...] | None
    by_rule: tuple[bool, ...] = ()

    @property
    def counts_as_scored(self) -> bool:
        """Whether coverage counts it as scored: it has a response and a score."""
        return self.answered and self.scored

    def observations(self, scoring: Scoring) -> tuple[Observation, ...]:
        """Return the observations of a reading."""
        if scoring == "value":
            return self.corrected
        return self.parity or ()

    def judged(self) -> ObservedSample:
        """Return the sample without the observations that a rule gave."""
        kept: list[Observation] = []
        for observation, is_by_rule in zip(self.corrected, self.by_rule, strict=True):
            if not is_by_rule:
                kept.append(observation)
        return dataclasses.replace(self, corrected=tuple(kept), by_rule=(False,) * len(kept))

    def of_part(self, sub_scores: SubScores, name: str) -> ObservedSample:
        """Return the sample as the sub-metric of one part of its score sees it.

        A part that does not apply to a scored sample, so that the scorer did not observe it, is not expected there.
        """
        corrected = _of_part(self.corrected, sub_scores, name)
        by_rule: list[bool] = []
        for observation, is_by_rule in zip(self.corrected, self.by_rule, strict=True):
            if _of_part([observation], sub_scores, name):
                by_rule.append(is_by_rule)
        return dataclasses.replace(
            self,
            applies=self.applies and (not self.scored or bool(corrected)),
            scored=bool(corrected),
            corrected=corrected,
            parity=None if self.parity is None else _of_part(self.parity, sub_scores, name),
            by_rule=tuple(by_rule),
        )


def _of_part(observations: Iterable[Observation], sub_scores: SubScores, name: str) -> tuple[Observation, ...]:
    parts = []
    for observation in observations:
        number = observation.get(f"{sub_scores.group}.{name}", sub_scores.absent)
        if number is not None:
            parts.append({**observation, "value": number})
    return tuple(parts)


def parts_of(samples: Iterable[ObservedSample], sub_scores: SubScores) -> list[str]:
    """Return the names of all parts: those that are always reported, and those that a sample has, sorted."""
    names = set(sub_scores.names)
    prefix = f"{sub_scores.group}."
    for sample in samples:
        for observation in sample.corrected:
            names.update(key.removeprefix(prefix) for key in observation if key.startswith(prefix))
    return sorted(names)


def epochs_of(score: ScoreEntry) -> Sequence[ScoreEntry]:
    """Return the scores of a sample, one per epoch: the score itself if the sample was answered once."""
    return score.get("epochs") or (score,)


def task_scores(record: Record) -> Iterator[tuple[str, ScoreEntry]]:
    """Yield task and score: of the record's own task, and of those that read the same responses."""
    yield record["task"], record
    yield from record["also"].items()


def observed_by_task(records: Iterable[Record]) -> dict[str, list[ObservedSample]]:
    """Return task -> its samples, sorted by id.

    A record also counts for the tasks that read the responses of its own task.
    """
    tasks: dict[str, list[ObservedSample]] = {}
    for record in records:
        for task, score in task_scores(record):
            tasks.setdefault(task, []).append(observed_sample(record, score))
    for samples in tasks.values():
        samples.sort(key=lambda sample: sample.id)
    return tasks


def observed_sample(record: Record, score: ScoreEntry) -> ObservedSample:
    """Return a sample as one of its record's scores shows it."""
    group = record["group"]
    # One epoch stands for all if the task reduces them; metrics take each as an observation otherwise
    epochs = (score,) if "reducer" in score else epochs_of(score)
    # A record leaves "met" out: its status tells it
    item = record["id"].partition(".")[0]
    facts = [{"item": item, "met": epoch.get("met", record["status"] == "passed")} for epoch in epochs]
    observations = [_corrected(epoch, group, fact) for epoch, fact in zip(epochs, facts, strict=True)]
    concerned: list[Observation | None] = []
    by_rule: list[bool] = []
    for epoch, observation in zip(epochs, observations, strict=True):
        if epoch.get("applies", True):
            concerned.append(observation)
            by_rule.append(_is_by_rule(record, epoch, single=len(epochs) == 1))
    complete = [observation for observation in concerned if observation is not None]
    # a sample with an unscored epoch is left out: the mean of the other epochs would be another number
    scored = bool(concerned) and len(complete) == len(concerned)
    return ObservedSample(
        id=record["id"],
        fingerprint=record.get("fingerprint", ""),
        cluster=record.get("cluster", record["id"]),
        group=group,
        applies=bool(concerned),
        scored=scored,
        answered=not record.get("silent", False),
        corrected=tuple(complete) if scored else (),
        parity=_parity(epochs, observations, group, facts),
        by_rule=tuple(by_rule) if scored else (),
    )


def _is_by_rule(record: Record, epoch: ScoreEntry, *, single: bool) -> bool:
    """Return whether an epoch was scored although the provider blocked its prompt."""
    if single:
        return record.get("unanswered") == BLOCKED
    if "unanswered" in epoch:
        return epoch["unanswered"] == BLOCKED
    # a file of an earlier version says only of the whole record that a prompt was blocked
    answer = epoch["answer"] or ""
    return record.get("unanswered") == BLOCKED and answer.endswith(f"({BLOCKED})")


def _corrected(epoch: ScoreEntry, group: Mapping[str, str], facts: Mapping[str, Any]) -> Observation | None:
    """Return the observation of one epoch in the corrected reading; None if it has no score."""
    value = epoch["value"]
    if value is None:
        return None
    return {**facts, **epoch["observed"], "value": value, "group": group}


def _parity(
    epochs: Sequence[ScoreEntry],
    corrected: Sequence[Observation | None],
    group: Mapping[str, str],
    facts: Sequence[Mapping[str, Any]],
) -> tuple[Observation, ...] | None:
    """Return the observations in the authors' toolkit's reading; None if the toolkit raises an error at any epoch."""
    observations: list[Observation] = []
    for epoch, observation, fact in zip(epochs, corrected, facts, strict=True):
        parity = epoch["parity"]
        if parity == RAISES:
            return None
        if parity == "same":
            if observation is not None:
                observations.append(observation)
        elif isinstance(parity, Mapping):
            observations.append({**fact, **parity, "group": group})
    return tuple(observations)


def group_values(samples: Iterable[ObservedSample], name: str) -> list[str]:
    """Return all values of a group among the samples, sorted."""
    return sorted({sample.group[name] for sample in samples if name in sample.group})
