"""Frozen values handed from room to room."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Role = Literal["judge", "refusal", "embedder", "toxicity"]
ROLES: tuple[Role, ...] = ("judge", "refusal", "embedder", "toxicity")
Status = Literal["passed", "missed", "unscored", "error"]
Messages = tuple[tuple[str, str], ...]
"""A chat as (role, content) pairs."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
RAISES = "raises"
"""Parity reading of a sample on which the authors' toolkit raises: the whole metric has no parity value then."""


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Generation:
    """How an answer is to be generated.

    Attributes:
        temperature: 0 means greedy.
        max_new_tokens: Upper bound of the answer's length, in tokens of the model.
        stop: The answer ends before the first of these strings.
    """

    temperature: float = 0.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model.

    Attributes:
        messages: The chat. For a classifier, an embedder or a rater: one user message with the text.
        generation: How to answer.
        seed: Random numbers of a sampled answer depend on this alone; 0 for a greedy one.
        origin: ``(data file, row)`` of a data set row, else None. It finds recorded responses; no model sees it.
        fresh: Ask again although an answer is stored.
    """

    messages: Messages
    generation: Generation = Generation()
    seed: int = 0
    origin: tuple[str, int] | None = None
    fresh: bool = False

    @property
    def text(self) -> str:
        """The contents of all messages, joined by blank lines (one message: its text)."""
        return "\n\n".join(content for _, content in self.messages)

    def key(self) -> list[object]:
        """Return what of the request can change the answer, as JSON."""
        g = self.generation
        sampled = [g.temperature, self.seed] if g.temperature > 0 else [0, 0]
        return [[list(m) for m in self.messages], *sampled, g.max_new_tokens, list(g.stop)]


@dataclass(frozen=True, slots=True)
class Response:
    """What a model gave back.

    Attributes:
        text: The answer, or the label of a classifier; None if there is none.
        vector: Embedding, for an embedder.
        number: Rating in [0, 1], for a toxicity model; probability of ``text`` for a classifier.
        error: Why there is no answer, in one line; None if the model answered.
        raised: The error is the user's own code raising, not a backend failing: the item fails.
        fatal: No later request can succeed either (wrong key, no such model).
        input_tokens: Tokens of the prompt, None if unknown.
        output_tokens: Tokens of the answer, None if unknown.
        finish: ``stop``, ``length``, ``content_filter``, or None if unknown.
        seconds: Time the answer took, as far as it can be told from its batch.
        revision: Model version that the backend reported.
        cached: The answer came from the store.
    """

    text: str | None = None
    vector: tuple[float, ...] | None = None
    number: float | None = None
    error: str | None = None
    raised: bool = False
    fatal: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish: str | None = None
    seconds: float | None = None
    revision: str | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What a scorer wants to know from a role's model.

    Attributes:
        role: Which role answers.
        messages: What to ask.
        accept: Tells whether a reply can be read; an unreadable one is asked once more with ``retry``, and not stored.
        retry: Messages of the second try; None repeats ``messages``.
        generation: Greedy and short unless said otherwise.
    """

    role: Role
    messages: Messages
    accept: Callable[[Response], bool] | None = None
    retry: Messages | None = None
    generation: Generation = Generation(max_new_tokens=32)


@dataclass(frozen=True, slots=True)
class Sample:
    """The smallest thing that can be scored alone: one row of data, or two that only score together.

    Attributes:
        task: ``dimension/task``.
        id: Four-digit row number in the data file (a pair: of its second row).
        rows: The data rows, as they stand in the file.
        prompts: One chat per row.
        origins: ``(data file, row)`` per row.
        group: Group name -> value, for sub-metrics.
        fingerprint: Changes when the prompts, the rows or the task's version change.
        cluster: The same for samples made of one source item, else different; None: the sample stands for itself.
    """

    task: str
    id: str
    rows: tuple[Mapping[str, Any], ...]
    prompts: tuple[Messages, ...]
    origins: tuple[tuple[str, int], ...]
    group: Mapping[str, str]
    fingerprint: str
    cluster: str | None = None

    @property
    def row(self) -> Mapping[str, Any]:
        """The data row (a pair: its second row)."""
        return self.rows[-1]


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer made of the responses to one sample.

    Attributes:
        value: The documented ("corrected") reading; None: not scored, and ``reason`` says why.
        met: The response is what the task hopes for. Ignored if ``value`` is None.
        answer: What the scorer read out of the response, for people.
        reason: Why there is no value.
        observed: What metrics need besides ``value`` and the group, plain JSON.
        parity: What the authors' toolkit would read: a mapping with ``value`` and what else its metric needs; None if
            it leaves the sample out; ``RAISES`` if it raises. The string ``"same"`` repeats the corrected reading.
        applies: False: the task does not concern this sample (a refusal has no toxicity to rate); it is not expected
            to have a value.
    """

    value: float | None
    met: bool = True
    answer: str | None = None
    reason: str | None = None
    observed: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    parity: Mapping[str, Any] | str | None = "same"
    applies: bool = True

    @classmethod
    def none(cls, reason: str, *, parity: Mapping[str, Any] | str | None = None, answer: str | None = None) -> Score:
        """Return the score of a sample that could not be scored."""
        return cls(None, False, answer, reason, NOTHING, parity)

    @classmethod
    def not_applicable(cls, reason: str) -> Score:
        """Return the score of a sample that the task does not concern."""
        return cls(None, True, None, reason, NOTHING, None, False)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number may lie, were the run repeated with other samples of the same kind.

    Attributes:
        low: Lower limit, within the metric's range.
        high: Upper limit.
        confidence: Share of such intervals that hold the true number, in (0, 1).
        method: How it was found, with its source, for people.
    """

    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric over the samples of a run, in both readings.

    Attributes:
        id: ``dimension/task.metric``, with ``{group=value}`` for a sub-metric.
        value: Corrected reading; None if no sample could be used.
        parity: The authors' toolkit's reading of the same responses.
        expected: Samples of the run that the metric is about.
        scored: Those with a corrected reading.
        higher_is_better: Direction.
        range: Least and greatest possible value.
        problem: Why there is no number although there may be scores: the metric's own code failed.
        interval: Of ``value``; None if there is none.
    """

    id: str
    value: float | None
    parity: float | None
    expected: int
    scored: int
    higher_is_better: bool
    range: tuple[float, float]
    problem: str | None = None
    interval: Interval | None = None

    @property
    def unscored(self) -> int:
        """Samples without a reading."""
        return self.expected - self.scored


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples a run was about.

    Attributes:
        totals: Task -> samples that its data has.
        planned: Task -> samples that were selected to run.
    """

    totals: Mapping[str, int]
    planned: Mapping[str, int]

    def partial(self, tasks: Iterable[str]) -> bool:
        """Return whether samples of any of the tasks were left out."""
        return any(self.planned.get(t, 0) < self.totals.get(t, 0) for t in tasks)


@dataclass(frozen=True, slots=True)
class TrustScore:
    """A dimension's trust score.

    Attributes:
        value: Mean of the headline metrics, each turned so that higher is better and clipped to [0, 1]; None if none
            of them has a value.
        of: Headline metrics that entered.
        missing: Headline metrics without a value.
        interval: Of ``value``; None if there is none.
    """

    value: float | None
    of: tuple[str, ...]
    missing: tuple[str, ...]
    interval: Interval | None = None
