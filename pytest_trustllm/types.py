"""Frozen values passed between rooms, and the few rules about them that several rooms share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

Role = Literal["judge", "refusal", "embedder", "toxicity", "guard", "simulator"]
ROLES: tuple[Role, ...] = ("judge", "refusal", "embedder", "toxicity", "guard", "simulator")
Status = Literal["passed", "missed", "unscored", "error"]
GateScoring = Literal["value", "parity", "corrected"]
"""What a gate judges: one of a metric's readings, or its value corrected for the mistakes of its judge."""
Messages = tuple[tuple[str, str], ...]
"""A chat as (role, content) pairs.

Besides ``system``, ``user`` and ``assistant`` there are two roles for tools. ``tool_call`` is a call that the assistant
makes after its text (its content: :meth:`ToolCall.text`); ``tool`` is a result, and the results of several calls follow
in the order of the calls. Ids of calls, which some servers invent anew for every answer, are no part of a chat.
"""

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""An empty mapping that nobody can fill by mistake; fit for a default."""
RAISES = "raises"
"""Parity reading of a sample on which the authors' toolkit raises: the whole metric has no parity value then."""

REASONING_CUT = "the reasoning was cut"
"""The model reached its limit of tokens before its answer began."""
LANGUAGE = "language"
"""How the reason of a sample begins whose response is in a language that its scorer or its classifier does not read."""
BLOCKED = "blocked by the provider"
"""A provider's filter withheld the prompt from the model, or the answer from us."""

JUDGE_CHECK_SCHEMA = "pytest-trustllm/judge-check/1"
"""Format of the files that ``judge-check`` writes and ``--trust-judge-check`` reads."""

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English text, for use without a tokenizer."""


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has, rounded up."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a value that JSON can represent, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Generation:
    """How an answer is to be generated.

    Attributes:
        temperature: 0 means greedy.
        max_new_tokens: Upper bound of the answer's length, in tokens of the model.
        stop: The answer ends before the first of these strings; reasoning before the answer may contain them.
        thinking_tokens: Tokens in addition to ``max_new_tokens``, for the reasoning before the answer.
    """

    temperature: float = 0.0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    thinking_tokens: int = 0

    @property
    def most_tokens(self) -> int:
        """Upper bound of the length of reasoning and answer together, in tokens."""
        return self.max_new_tokens + self.thinking_tokens


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these members, for ``object_pairs_hook``; readers differ in which of two values they see.

    Raises:
        ValueError: A key is given twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is given twice")
    return values


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    Attributes:
        name: Of letters, digits, ``_`` and ``-``.
        parameters: JSON Schema of the arguments, an object.
        description: What the model is told about it.
    """

    name: str
    parameters: Mapping[str, Any]
    description: str = ""

    def schema(self) -> dict[str, Any]:
        """Return it as APIs and chat templates expect it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's call of a tool.

    Attributes:
        name: The tool's, as the model wrote it; there may be no such tool.
        arguments: Name -> value; what the model wrote, if that is not a JSON object, or one with a key twice.
    """

    name: str
    arguments: Mapping[str, Any] | str

    def text(self) -> str:
        """Return it as JSON, the same for equal calls."""
        arguments = self.arguments if isinstance(self.arguments, str) else dict(self.arguments)
        return json.dumps({"name": self.name, "arguments": arguments}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> ToolCall:
        """Return what :meth:`text` was made of."""
        return cls(**json.loads(text))

    @classmethod
    def from_json(cls, name: str, arguments: str) -> ToolCall:
        """Return the call that a model wrote with its arguments as JSON, which may be broken."""
        try:
            values = json.loads(arguments or "{}", object_pairs_hook=unambiguous, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return cls(name, arguments)
        return cls(name, values if isinstance(values, dict) else arguments)


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for one model.

    Attributes:
        messages: The chat. For a classifier, an embedder or a rater: one user message with the text.
        generation: How to answer.
        seed: The random numbers of a sampled answer depend on this alone; 0 for a greedy answer.
        origin: ``(data file, row)`` of a row of the data set, else None. Recorded responses are found by it; no model
            sees it.
        fresh: Send the request even if an answer is stored.
        epoch: Number of earlier repetitions of the same request; each has an answer of its own in the store.
        tools: What the model may call.
    """

    messages: Messages
    generation: Generation = Generation()
    seed: int = 0
    origin: tuple[str, int] | None = None
    fresh: bool = False
    epoch: int = 0
    tools: tuple[Tool, ...] = ()

    @property
    def text(self) -> str:
        """The contents of all messages, joined by blank lines (one message: its text)."""
        return "\n\n".join(content for _, content in self.messages)

    @property
    def tokens(self) -> int:
        """About how many tokens the chat has, and the description of the tools."""
        tools = sum(tokens_of(json.dumps(tool.schema())) for tool in self.tools)
        return tools + sum(tokens_of(content) for _, content in self.messages)

    def key(self) -> list[object]:
        """Return those parts of the request that can change the answer, as JSON. The store is addressed by it."""
        generation = self.generation
        key: list[object] = [[list(message) for message in self.messages]]
        if generation.temperature > 0:
            key += [generation.temperature, self.seed]
        else:
            key += [0, 0]  # greedy: the seed changes nothing
        key += [generation.max_new_tokens, list(generation.stop)]
        # Only where they matter, so that answers stored before these fields existed are still found.
        if self.epoch:
            key.append(self.epoch)
        if generation.thinking_tokens:
            key.append({"thinking_tokens": generation.thinking_tokens})
        if self.tools:
            key.append({"tools": [tool.schema() for tool in self.tools]})
        return key


@dataclass(frozen=True, slots=True)
class Response:
    """What a model returned.

    Attributes:
        text: The answer alone, without the reasoning before it, or the label of a classifier; None if there is none.
        vector: Embedding, for an embedder.
        number: Rating in [0, 1], for a toxicity model; probability of ``text`` for a classifier.
        error: Why there is no answer, in one line; None if the model answered.
        raised: The user's own code raised the error, not a backend: the item fails.
        fatal: No later request can succeed either (wrong key, unknown model).
        input_tokens: Tokens of the prompt, None if unknown.
        output_tokens: Tokens of the answer, None if unknown.
        finish: ``stop``, ``length``, ``content_filter``, or None if unknown.
        seconds: Time that the answer took, as far as its batch allows to tell.
        revision: Model version that the backend reported.
        near_tie: True if, in reduced precision, a greedy choice was so close that rounding in another batch may reverse
            it; None: no, or unknown.
        cached: The answer came from the store.
        cut: This run ends without the answer, and the next one asks for it: the budget was spent before the request
            could be sent, or it is ``pending``; ``error`` says which.
        pending: The request is in a batch that is not done.
        reasoning: The model's reasoning before its answer; None if there is none or it is unknown.
        reasoning_tokens: How many of ``output_tokens`` were spent on it; None if unknown.
        unanswered: Why a reply contains no answer although nothing failed: ``REASONING_CUT`` or ``BLOCKED``. Such a
            reply is stored like an answer; the sample is unscored for this reason.
        detail: With ``unanswered``: the provider's explanation, or the part of an answer that arrived. For people.
        calls: The tools that the model calls; it waits for their results. ``text`` is then what it said before.
        trace: What an app did before it answered, such as calls of its own tools and their results.
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
    near_tie: bool | None = None
    cached: bool = False
    cut: bool = False
    pending: bool = False
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    unanswered: str | None = None
    detail: str | None = None
    calls: tuple[ToolCall, ...] = ()
    trace: Messages = ()

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> Response:
        """Return the response whose fields went through JSON, as lists and mappings; unknown ones are left out."""
        values = {name: value for name, value in fields.items() if name in _RESPONSE_FIELDS}
        if values.get("vector") is not None:
            values["vector"] = tuple(values["vector"])
        values["calls"] = tuple(ToolCall(**call) for call in values.get("calls") or ())
        values["trace"] = tuple((role, content) for role, content in values.get("trace") or ())
        return cls(**values)

    @property
    def is_blank(self) -> bool:
        """Whether it neither says nor calls anything."""
        return not (self.text or "").strip() and not self.calls

    @property
    def said(self) -> Messages:
        """What it adds to the chat."""
        said: list[tuple[str, str]] = list(self.trace)
        if self.text or not self.calls:
            said.append(("assistant", self.text or ""))
        said += [("tool_call", call.text()) for call in self.calls]
        return tuple(said)


_RESPONSE_FIELDS = frozenset(each.name for each in fields(Response))


VERDICT = Generation(max_new_tokens=256)
"""For a judge, or a chat model as classifier: one word is wanted, but some models explain themselves first."""
ROOM_AFTER_CUT = 4096
"""New tokens of a second try after a reply that was cut off: a reasoning judge needs thousands."""


def after_cut(generation: Generation, reply: Response) -> Generation:
    """Return the settings of a second try: with much more room if the reply was cut off, else as before."""
    if reply.finish != "length":
        return generation
    return replace(generation, max_new_tokens=max(generation.max_new_tokens, ROOM_AFTER_CUT))


NOT_ASKED = Response()
"""The reply to an optional question whose role has no model; it is this very object."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a scorer wants to know from a role's model.

    Attributes:
        role: Which role answers.
        messages: The chat.
        accept: Returns whether a reply can be read. After an unreadable reply, which is not stored, ``retry`` is sent
            once. None: every reply can be read, or every reply with a ``label``.
        retry: Messages of the second try; None repeats ``messages``.
        generation: By default greedy, with room for a short explanation. After a reply that was cut off, the second
            try gets ``ROOM_AFTER_CUT`` tokens.
        label: Returns the verdict of a reply, None if there is none; votes with the same label agree.
        optional: Without a model in the role, the reply is ``NOT_ASKED``; otherwise it is an error.
    """

    role: Role
    messages: Messages
    accept: Callable[[Response], bool] | None = None
    retry: Messages | None = None
    generation: Generation = VERDICT
    label: Callable[[Response], str | None] | None = None
    optional: bool = False

    def is_read(self, reply: Response) -> bool:
        """Return whether a reply can be read; one that was cut off cannot, because its verdict may come last."""
        if self.accept is None and self.label is None:
            return True
        if reply.finish == "length":
            return False
        if self.accept is not None and not self.accept(reply):
            return False
        return self.label is None or self.label(reply) is not None

    def second_try(self, reply: Response) -> tuple[Messages, Generation]:
        """Return messages and settings of the second try, after a reply that could not be read."""
        return self.retry or self.messages, after_cut(self.generation, reply)


@dataclass(frozen=True, slots=True)
class Again:
    """A sample of a saved run, as that run asked it.

    Attributes:
        task: ``dimension/task``.
        sample: Its id.
        seed: Of the saved run.
        generation: How the saved run asked for answers.
    """

    task: str
    sample: str
    seed: int
    generation: Generation


@dataclass(frozen=True, slots=True)
class Sample:
    """The smallest thing that can be scored alone: one row of data, or two that can only be scored together.

    Attributes:
        task: ``dimension/task``.
        id: Four-digit row number in the data file (a pair: of its second row).
        rows: The data rows, as in the file.
        prompts: One chat per row.
        origins: ``(data file, row)`` per row.
        group: Group name -> value, for sub-metrics.
        fingerprint: Changes when the prompts, the rows or the task's version change.
        cluster: Equal for samples made of the same source item; None: the sample is independent of all others.
        again: The sample of a saved run that this one repeats, whatever is stored; None: it repeats none.
        paraphrase: Which rewording of its prompt by the simulator is asked; None: the prompt as it is.
        not_concerned: Why the task does not concern it, so that it is not sent; None: it does.
    """

    task: str
    id: str
    rows: tuple[Mapping[str, Any], ...]
    prompts: tuple[Messages, ...]
    origins: tuple[tuple[str, int], ...]
    group: Mapping[str, str]
    fingerprint: str
    cluster: str | None = None
    again: Again | None = None
    paraphrase: int | None = None
    not_concerned: str | None = None

    @property
    def row(self) -> Mapping[str, Any]:
        """The data row (a pair: its second row)."""
        return self.rows[-1]


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer made of the responses to one sample.

    Attributes:
        value: The documented ("corrected") reading; None: not scored, for the given ``reason``.
        met: The response is the hoped-for one. Ignored if ``value`` is None.
        answer: What the scorer read in the response, for people.
        reason: Why there is no value.
        observed: What metrics need besides ``value`` and the group, plain JSON.
        parity: What the authors' toolkit would read: a mapping with ``value`` and what else its metric needs; None if
            it leaves the sample out; ``RAISES`` if it raises. The string ``"same"`` repeats the corrected reading.
        applies: False if the task does not apply to this sample (a refusal has no toxicity to rate): it is not
            expected to have a value.
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
        """Return the score of a sample that the task does not apply to."""
        return cls(None, True, None, reason, NOTHING, None, False)


Reducer = Literal["mean", "any", "all", "max", "majority"]
REDUCERS: tuple[Reducer, ...] = ("mean", "any", "all", "max", "majority")
"""What the epochs of a sample come to: the mean; one that meets the target, or misses it, if there is one; the one with
the greatest value; one with the score that more than half of them have."""
MEAN: Reducer = "mean"

TRANSFORM, ORIGINAL = "transform", "original"
"""Group of the samples of a task with ``transforms``, and its value for the unchanged prompt."""
PART = "part"
"""Group of the sub-metrics of a scorer's parts: ``accuracy{part=NAME}``."""


@dataclass(frozen=True, slots=True)
class SubScores:
    """The parts of a score that become sub-metrics, as values of a group of their own.

    A scorer observes each as ``GROUP.NAME``: a number on the scale of its own value.

    Attributes:
        group: Name of the group, such as ``part``.
        names: The parts that are always reported; others are reported if a sample has them.
        absent: The number of a part that a scored sample does not have; None: the part does not apply to it.
    """

    group: str
    names: tuple[str, ...] = ()
    absent: float | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """The range in which a number may be expected if the run were repeated with other samples of the same kind.

    Attributes:
        low: Lower limit, within the metric's range.
        high: Upper limit.
        confidence: Share of such intervals that contain the true number, in (0, 1).
        method: How it was computed, with the source, for people.
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
        scored: Those with a response and a corrected reading. A missing response may count as wrong in the value, but
            never as a scored sample.
        higher_is_better: Direction.
        range: Least and greatest possible value.
        problem: Why there is no number although there may be scores: the metric's own code failed; None if it did not.
        interval: Of ``value``; None if there is none.
        unmatched: The metric counts no sample of the run (``where``).
        asked: Samples of the run that the metric is about, whether the task concerns them or not.
        planned: The same with those that were not asked, because no gate needed them.
        stopped: By which rule the asking stopped; None: all samples were asked.
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
    unmatched: bool = False
    asked: int = 0
    planned: int = 0
    stopped: Literal["exact", "alpha"] | None = None

    @property
    def unscored(self) -> int:
        """Number of samples without a reading."""
        return self.expected - self.scored


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples a run was meant to cover.

    Attributes:
        totals: Task -> number of samples in its data.
        planned: Task -> number of samples selected to run.
    """

    totals: Mapping[str, int]
    planned: Mapping[str, int]

    def partial(self, tasks: Iterable[str]) -> bool:
        """Return whether samples of any of the tasks were left out."""
        return any(self.planned.get(task, 0) < self.totals.get(task, 0) for task in tasks)


@dataclass(frozen=True, slots=True)
class TrustScore:
    """A dimension's trust score.

    Attributes:
        value: Mean of the headline metrics, each oriented so that higher is better and clipped to [0, 1]; None if none
            of them has a value.
        of: Headline metrics that are part of it.
        missing: Headline metrics without a value.
        interval: Of ``value``; None if there is none.
    """

    value: float | None
    of: tuple[str, ...]
    missing: tuple[str, ...]
    interval: Interval | None = None


def oriented(number: float, *, higher_is_better: bool) -> float:
    """Return a headline number on a trust score's scale: between 0 and 1, higher is better."""
    if not higher_is_better:
        number = 1.0 - number
    return min(1.0, max(0.0, number))
