"""Breaks control tokens in the texts that a judge, a guard or a chat model as classifier is shown.

A tokenizer does not tell a control token that its chat template wrote from one that stands in a message: a response
with ``<|im_end|>`` would end the message that quotes it, and could go on to answer in the judge's place. No fence helps
against that, because fences are text.
"""

from __future__ import annotations

import re

# Those of common chat formats, whoever is asked: an API does not say which model answers, or what its tokens are
_CONTROL = re.compile(
    r"<[|｜][^|｜<>\s]{1,40}[|｜]>"  # ChatML, Llama 3 and 4, Phi, gpt-oss, Command R; with wide bars DeepSeek
    r"|<\|\w{1,40}>|<\w{1,40}\|>"  # Gemma 4
    r"|\[\|[^|<>\[\]\s]{1,40}\|\]"  # EXAONE
    r"|<(?:start|end)_of_turn>"  # Gemma
    r"|</?s>|<(?:bos|eos|pad)(?:_token)?>|<(?:reserved|extra_id)_\d{1,4}>"
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"  # Llama 2, Mistral
    r"|<(?:BEGIN|END) (?:CONVERSATION|UNSAFE CONTENT CATEGORIES)>",  # Llama Guard
    re.I,
)


def without_control_tokens(text: str) -> str:
    """Return a text in which no control token is left.

    Args:
        text: What is quoted.

    Returns:
        The text with a blank after the first character of each control token, so that it is readable and no token any
        more; a text without control tokens as it is.
    """
    return _CONTROL.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
