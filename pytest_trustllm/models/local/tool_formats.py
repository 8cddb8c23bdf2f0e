"""How models of transformers write calls of tools; which way a model has, its chat template tells.

Source:
    Hermes' and Qwen's format: https://github.com/NousResearch/Hermes-Function-Calling. Llama 3.1 and later:
    https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1. Mistral: https://docs.mistral.ai.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_trustllm.models.tool_messages import read_calls
from pytest_trustllm.types import ToolCall, unambiguous

Parse = Callable[[str], tuple[str, tuple[ToolCall, ...]]]
"""Answer of a model -> the text before its calls, and the calls."""
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_MISTRAL = "[TOOL_CALLS]"
_PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """A way to write calls.

    Attributes:
        name: Of the format; it is part of what identifies the model.
        marks: Tokens that a decoder must not leave out.
        parse: Reads an answer.
    """

    name: str
    marks: tuple[str, ...]
    parse: Parse


def _read(texts: Iterator[str] | list[str]) -> tuple[ToolCall, ...] | None:
    """Return the calls of JSON texts; None if one of them is no call."""
    calls: list[ToolCall] = []
    for text in texts:
        try:
            value = json.loads(text, object_pairs_hook=unambiguous)
            entries = value if isinstance(value, list) else [value]
            for entry in entries:
                if isinstance(entry, dict) and "parameters" in entry and "arguments" not in entry:
                    entry = {**entry, "arguments": entry["parameters"]}
                calls += read_calls([entry])
        except (ValueError, TypeError, RecursionError):
            return None
    return tuple(calls)


def _tagged(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    calls = _read([match[1] for match in _TAGGED.finditer(text)])
    if not calls:
        return text, ()
    return text.partition("<tool_call>")[0].strip(), calls


def _mistral(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    before, mark, after = text.partition(_MISTRAL)
    calls = _read([after.strip()]) if mark else None
    return (before.strip(), calls) if calls else (text, ())


def _llama(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    bare = text.strip().removeprefix(_PYTHON_TAG).strip()
    if not bare.startswith("{"):
        return text, ()
    calls = _read([bare]) or _read(bare.split(";"))
    return ("", calls) if calls else (text, ())


_HERMES = ToolFormat("hermes", ("<tool_call>", "</tool_call>"), _tagged)
_MISTRALS = ToolFormat("mistral", (_MISTRAL,), _mistral)
_LLAMAS = ToolFormat("llama", (_PYTHON_TAG,), _llama)


def format_of(template: str | None) -> ToolFormat | None:
    """Return how a model writes calls; None if its chat template takes no tools, or the format is not known."""
    if template is None or not re.search(r"\btools\b", template):
        return None
    if "<tool_call>" in template and "<function=" not in template:
        return _HERMES
    if _MISTRAL in template and "[ARGS]" not in template:
        return _MISTRALS
    if "ipython" in template and '"parameters"' in template:
        return _LLAMAS
    return None
