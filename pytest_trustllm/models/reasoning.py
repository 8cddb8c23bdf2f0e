"""Separates a model's reasoning from its answer.

Reasoning models write their thoughts before the answer and mark them in one of several ways: between tags, in channels
(gpt-oss), or in a field of the API's message. Scorers only see the answer; the reasoning is kept for people.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_trustllm.types import REASONING_CUT, Generation, Response

DEFAULT_THINKING_TOKENS = 4096
"""Tokens granted for the reasoning of a model that is known to reason, unless its entry sets another number."""


@dataclass(frozen=True, slots=True)
class Tags:
    """The pair of tags around a thought.

    Attributes:
        start: Opens the thought; empty: the chat template has opened it already, so the model's text begins inside.
        end: Closes the thought.
        anywhere: A thought may also come later in the text, and ``end`` without ``start`` closes one that began with
            the text. False: only a text that begins with ``start`` has a thought; elsewhere the tag belongs to the
            answer.
    """

    start: str
    end: str
    anywhere: bool = True


WELL_KNOWN: tuple[Tags, ...] = (
    Tags("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax and most others
    Tags("[THINK]", "[/THINK]"),  # Magistral
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<longcat_think>", "</longcat_think>"),  # LongCat
    Tags("◁think▷", "◁/think▷"),  # Kimi-VL
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Tags("<unused94>", "<unused95>"),  # MedGemma
    Tags("<|channel>", "<channel|>"),  # Gemma 4
    # An answer in XML may use these words as well
    Tags("<thinking>", "</thinking>", anywhere=False),
    Tags("<thought>", "</thought>", anywhere=False),
    Tags("<reasoning>", "</reasoning>", anywhere=False),
    Tags("Here is my thought process:", "Here is my response:", anywhere=False),  # Granite 3.2
)
"""Tags that are recognised if neither the models file nor the model names its own."""

_ANSWER_WRAPPERS = (
    ("<answer>", "</answer>"),  # Hunyuan
    ("<response>", "</response>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""Tags that some models put around the answer after a thought."""

CHANNEL_MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>")
"""Special tokens of harmony, the format of gpt-oss."""

_SPACE = "\u200b \t\r\n"  # some models write a zero-width space around their tags
_BLANK = r"[\s\u200b]*"
_CHANNEL = re.compile(
    rf"<\|channel\|>{_BLANK}(analysis|commentary|final)\b(?:<\|constrain\|>|(?!<\|).)*?<\|message\|>", re.DOTALL
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# What is left of the channels if special tokens were removed: 'analysisThe user ... assistantfinalSure, ...'
_BARE_ANALYSIS = re.compile(rf"{_BLANK}analysis(?=[^a-z]|$)")
# Only where the marks were adjacent can a word follow without a blank: '... the assistant finally ...' is prose
_BARE_FINAL = re.compile(
    rf"(?:assistant(?:commentary)?)+final|(?:assistant{_BLANK}(?:commentary)?{_BLANK})+final(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class SplitText:
    """A model's text, split into reasoning and answer.

    Attributes:
        reasoning: The thoughts; None if there are none.
        answer: The answer alone; None if the text ended inside a thought.
    """

    reasoning: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How the reasoning of one model is recognised.

    Attributes:
        tags: Pairs to look for; empty: all of the text is the answer.
        channels: Look for gpt-oss channels as well.
        field: Field of the API's message that holds the reasoning; None: the provider looks for the usual ones.
        expected: The model is known to reason, so it is granted tokens for that.
        setting: The setting of the models file, as the results file records it; None if there is none.
    """

    tags: tuple[Tags, ...] = WELL_KNOWN
    channels: bool = True
    field: str | None = None
    expected: bool = False
    setting: Mapping[str, str] | Literal["none"] | None = None

    @classmethod
    def of(cls, setting: Mapping[str, str] | str | None) -> Reasoning:
        """Interpret the key ``reasoning`` of a models file.

        Args:
            setting: ``{start, end}``, ``{field}``, ``"none"``, or None if the entry has no such key.
        """
        if setting is None:
            return AUTOMATIC
        if isinstance(setting, str):
            return cls(tags=(), channels=False, setting="none")
        plain = dict(setting)
        if "field" in plain:
            return cls(field=plain["field"], expected=True, setting=plain)
        tags = Tags(plain.get("start", ""), plain["end"])
        return cls(tags=(tags,), channels=False, expected=True, setting=plain)

    def split(self, text: str, *, opened: bool = False, cut: bool = False) -> SplitText:
        """Split a model's text into reasoning and answer.

        Args:
            text: What the model wrote.
            opened: The prompt ended inside a thought, so the text begins inside it.
            cut: The model reached its limit of tokens.
        """
        if self.channels and "<|channel|>" in text:
            return _split_at_channels(text)
        tags = _first_tags(text, self.tags, opened=opened)
        if tags is not None:
            return _split_at_tags(text, tags, opened=opened or not tags.start, cut=cut)
        if self.channels and _BARE_ANALYSIS.match(text):
            return _split_at_bare_channels(text, cut=cut)
        if opened or (cut and self._has_own_tags()):
            return SplitText(text, None)
        return SplitText(None, text)

    def _has_own_tags(self) -> bool:
        """Return whether the models file names the tags; a text that was cut before any tag is then a thought."""
        return isinstance(self.setting, Mapping) and "end" in self.setting

    def begins(self, text: str) -> bool:
        """Return whether a text begins with a mark of reasoning."""
        marks: list[str] = []
        for tags in self.tags:
            marks += [tags.start, tags.end]
        if self.channels:
            marks += ["<|channel|>", "<|start|>"]
        return any(_begins_with(text, mark) for mark in marks if mark)


AUTOMATIC = Reasoning()
"""Looks for the well-known tags and channels."""


def without_reasoning(response: Response, reasoning: Reasoning, generation: Generation) -> Response:
    """Return a response whose text is the answer alone.

    Args:
        response: As the model returned it. Its provider may have separated the reasoning already; it is separated here
            all the same if the text begins with a mark, as some servers send a thought in a field and in the text.
        reasoning: How the model's reasoning is recognised.
        generation: The requested settings: stop texts end the answer and not the reasoning, so they are applied here.
    """
    if response.text is None or response.unanswered is not None:
        return response
    if response.reasoning is not None and not reasoning.begins(response.text):
        return response
    split_text = reasoning.split(response.text, cut=response.finish == "length")
    return with_split_text(response, split_text, generation.stop)


def with_split_text(response: Response, split_text: SplitText, stop: Sequence[str] = ()) -> Response:
    """Return a response with the two parts of its text.

    Args:
        response: The response.
        split_text: Its text, split into reasoning and answer.
        stop: Texts before which the answer ends.
    """
    if split_text.reasoning is None:
        return response
    thoughts = [split_text.reasoning]
    if response.reasoning is not None:
        thoughts.insert(0, response.reasoning.strip())
    reasoning = _join_thoughts(dict.fromkeys(thoughts))  # each once: field and text often hold the same
    if _is_cut(split_text, response.finish):
        return replace(response, text=None, reasoning=reasoning, unanswered=REASONING_CUT)
    return replace(response, text=text_before(split_text.answer or "", stop), reasoning=reasoning)


def _is_cut(split_text: SplitText, finish: str | None) -> bool:
    """Return whether a model ran out of tokens before its answer began."""
    if split_text.answer is None:
        return True
    return finish == "length" and not split_text.answer.strip()


def text_before(text: str, stop: Sequence[str]) -> str:
    """Return the part of a text before the first of the stop texts; the whole text if it has none."""
    end = len(text)
    for stop_text in stop:
        position = text.find(stop_text)
        if 0 <= position < end:
            end = position
    return text[:end]


def tags_named_in(texts: Iterable[str]) -> tuple[Tags, ...]:
    """Return the well-known tags that any of the texts, such as a chat template, contains."""
    all_texts = "\n".join(texts)
    return tuple(tags for tags in WELL_KNOWN if tags.end in all_texts)


def ends_inside_thought(prompt: str, tags: Sequence[Tags]) -> bool:
    """Return whether a rendered prompt ends with an opening tag."""
    stripped = prompt.rstrip()
    return any(stripped.endswith(pair.start) for pair in tags if pair.start)


def _first_tags(text: str, candidates: Sequence[Tags], *, opened: bool) -> Tags | None:
    """Return the pair of tags that marks a thought in a text; of several, the one that comes first."""
    first: Tags | None = None
    first_position = len(text)
    for tags in candidates:
        position = _position(text, tags, opened=opened)
        if position is not None and (first is None or position < first_position):
            first = tags
            first_position = position
    return first


def _position(text: str, tags: Tags, *, opened: bool) -> int | None:
    """Return where a pair of tags marks a thought in a text; None if it does not."""
    start = _find(text, tags.start) if tags.start else 0
    end = _find(text, tags.end)
    begins_with_start = start >= 0 and not text[:start].strip(_SPACE)
    if begins_with_start:
        return start
    if end < 0:
        # A thought that was opened late and never closed
        if start >= 0 and tags.anywhere:
            return start
        return None
    if not tags.anywhere and not opened:
        return None
    if 0 <= start < end:
        return start
    return end


def _split_at_tags(text: str, tags: Tags, *, opened: bool, cut: bool) -> SplitText:
    """Split a text at a pair of tags.

    Args:
        text: What the model wrote.
        tags: The pair.
        opened: The text begins inside a thought.
        cut: The model reached its limit of tokens.
    """
    thoughts: list[str] = []
    answer: list[str] = []
    segment_start = 0
    inside = opened
    last_opening = 0
    # One pass over all marks, so that a text of nothing but tags takes no longer than any other
    for mark in _marks_in(text, tags):
        opens_thought = mark.lastgroup == "start"
        segment = text[segment_start : mark.start()]
        if inside and opens_thought:
            continue  # a thought that quotes its opening tag, or that repeats the one of the prompt
        if opens_thought:
            answer.append(segment)
            last_opening = mark.start()
        else:
            # Outside a thought, it ends one that has no opening tag, or one that quoted its closing tag
            thoughts.append(_without_start(segment, tags))
        inside = opens_thought
        segment_start = mark.end()
    rest = text[segment_start:]
    if not inside:
        answer.append(rest)
        return SplitText(_join_thoughts(thoughts), _unwrapped("".join(answer)))
    has_answer = bool("".join(answer).strip(_SPACE))
    if not has_answer or cut:
        thoughts.append(_without_start(rest, tags))
        return SplitText(_join_thoughts(thoughts), None)
    # A model that stopped by itself, after some answer, wrote the last opening tag as a part of the answer
    if not thoughts:
        return SplitText(None, text)
    answer.append(text[last_opening:])
    return SplitText(_join_thoughts(thoughts), _unwrapped("".join(answer)))


def _marks_in(text: str, tags: Tags) -> Iterator[re.Match[str]]:
    """Yield the tags of a pair in a text, in any case of letters; the name of the matching group tells which."""
    pattern = f"(?P<end>{re.escape(tags.end)})"
    if tags.start:
        pattern = f"(?P<start>{re.escape(tags.start)})|{pattern}"
    return re.finditer(pattern, text, re.IGNORECASE)


def _find(text: str, mark: str) -> int:
    """Return the position of a mark in a text, in any case of letters; -1 if it is absent."""
    match = _pattern(mark).search(text)
    return match.start() if match else -1


@functools.cache
def _pattern(mark: str) -> re.Pattern[str]:
    """Return a mark as a pattern: every answer is searched for some thirty, and there are no others in a run."""
    return re.compile(re.escape(mark), re.IGNORECASE)


def _without_start(text: str, tags: Tags) -> str:
    """Return a thought without the opening tag that some models repeat although the prompt ended with it."""
    if tags.start and _begins_with(text, tags.start):
        return text.lstrip(_SPACE)[len(tags.start) :]
    return text


def _begins_with(text: str, mark: str) -> bool:
    return text.lstrip(_SPACE).lower().startswith(mark.lower())


def _join_thoughts(thoughts: Iterable[str]) -> str:
    stripped = (thought.strip() for thought in thoughts)
    return "\n\n".join(thought for thought in stripped if thought)


def _unwrapped(answer: str) -> str:
    """Return an answer without leading blanks, and without tags around all of it."""
    text = answer.lstrip(_SPACE)
    for start, end in _ANSWER_WRAPPERS:
        if text.startswith(start):
            return text.removeprefix(start).rstrip().removesuffix(end).strip()
    return text


def _split_at_channels(text: str) -> SplitText:
    """Split a text of gpt-oss: the channel ``final`` has the answer, everything else is reasoning.

    Source:
        The harmony response format, https://github.com/openai/harmony.
    """
    thoughts: list[str] = []
    answer: str | None = None
    headers = list(_CHANNEL.finditer(text))
    if not headers:
        return SplitText(text.strip(), None)
    for header in headers:
        end = _CHANNEL_END.search(text, header.end())
        content = text[header.end() : end.start()] if end else text[header.end() :]
        if header.group(1) == "final":
            answer = (answer or "") + content.lstrip(_SPACE)
        else:
            thoughts.append(content)
    return SplitText(_join_thoughts(thoughts), answer)


def _split_at_bare_channels(text: str, *, cut: bool) -> SplitText:
    """Split a text of gpt-oss from which a server has removed the special tokens."""
    analysis = _BARE_ANALYSIS.match(text)
    start = analysis.end() if analysis else 0
    final = _BARE_FINAL.search(text, start)
    if final is not None:
        return SplitText(text[start : final.start()].strip(), text[final.end() :].lstrip())
    # An answer may begin with the word 'analysis' as well. The text is only reasoning if it was cut, and if a sentence
    # follows the word without a blank
    if cut and text[start : start + 1].isupper():
        return SplitText(text[start:].strip(), None)
    return SplitText(None, text)
