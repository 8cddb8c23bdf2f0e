"""What an HTTP error means for its request and for the requests after it."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from pytest_trustllm.config.secrets import Scrubber
from pytest_trustllm.errors import shortened
from pytest_trustllm.models.api.error_bodies import ErrorBody
from pytest_trustllm.models.api.retrying import RequestFailure

_SHOWN_CHARACTERS = 300
"""Longest server message that is shown; the middle of a longer one is left out."""
_MAX_DEPTH = 6
_MAX_ENTRIES = 100
NO_SECRETS = Scrubber(())

_FILTER_MARKS = frozenset(
    {
        "content_filter",  # OpenAI, Azure
        "content_policy_violation",
        "content_policy",
        "content_moderation",
        "moderation_blocked",
        "content_blocked",
        "user_content_security_blocked",  # Baidu
        "responsibleaipolicyviolation",  # Azure
        "contentfilter",
        "invalid_prompt",  # OpenAI's reasoning models
        "data_inspection_failed",  # Alibaba
        "datainspectionfailed",
        "1301",  # Zhipu
        "prohibited_content",  # Google
        "safety",
        "blocklist",
        "recitation",
        "spii",
        "sensitive",
    }
)
_FILTER_KEYS = frozenset(
    {
        "flagged_input",
        "promptfeedback",
        "prompt_feedback",
        "content_filter_result",
        "input_sensitive",  # MiniMax
        "output_sensitive",
    }
)
_FILTER_WORDS = re.compile(
    r"\b(?:prompt|input|content|message|request|response|output|text|query|data)s?\b[^.]{0,80}"
    r"\b(?:flagged|filtered|moderated|blocked by|blocked due|inappropriate|violat\w+|unsafe|prohibited"
    r"|(?<!case[- ])sensitive)\b"
    r"|\bcontent (?:management )?(?:policy|filter\w*)\b|\bsafety (?:system|filter|setting)s?\b"
    r"|\b(?:requires|failed|by) moderation\b|敏感|不安全内容|违规内容",
    re.IGNORECASE,
)
_FILTER_PHRASES = re.compile(
    r"\bcontent exists risk\b"  # DeepSeek
    r"|\bconsidered high risk\b"  # Moonshot
    r"|\bcontent ?policy ?violation"  # LiteLLM
    r"|\bviolates usage guidelines\b|\bSAFETY_CHECK_TYPE"  # xAI, which adds the number of the API key
    r"|\bcontent of \w+ is illegal\b|\b(?:input|output) content is blocked\b"  # Baidu
    r"|\b(?:input|output) new_sensitive\b",  # MiniMax
    re.IGNORECASE,
)
"""Phrases that single providers use; each means a filter, whatever the rest of the message says."""
_ACCOUNT_WORDS = re.compile(
    r"\b(?:account|organi[sz]ation|project|api[ _-]?key|permission|credential|access|country|region|territory"
    r"|ip address|subscription|billing|unauthori[sz]ed|not authori[sz]ed)\b",
    re.IGNORECASE,
)
_WRONG_KEY_MARKS = frozenset({"invalid_api_key", "api_key_invalid", "authentication_error", "permission_denied"})
_WRONG_KEY_WORDS = re.compile(
    r"\bapi[ _-]?key\b[^.]{0,30}\b(?:not valid|invalid|expired|not found|incorrect|disabled|revoked)\b"
    r"|\b(?:invalid|incorrect|expired|missing|no) api[ _-]?key\b",
    re.IGNORECASE,
)
_OUT_OF_CREDIT_MARKS = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_credits",
        "insufficient_balance",
        "credit_balance_too_low",
        "account_deactivated",
        "arrearage",  # Alibaba
        "1113",  # Zhipu: the account is in arrears
    }
)
_OUT_OF_CREDIT_WORDS = re.compile(
    r"\b(?:insufficient (?:credit|balance|fund)|credit balance is too low)", re.IGNORECASE
)
_DAILY_LIMIT = re.compile(
    r"\b(?:per|a)[ _-]day\b|-per-day\b|PerDay|\bdaily\b|\b(?:RPD|TPD)\b|\bper[ _-]month\b|\bmonthly\b", re.IGNORECASE
)
_NOT_ABOUT_THE_PROMPT = frozenset({401, 402, 404, 405, 407, 408, 409, 413, 415, 429})
"""Statuses that never come from a content filter."""


def is_blocked(error: ErrorBody) -> bool:
    """Return whether the provider's content filter turned a prompt or an answer away, rather than a lack of permission.

    Codes count most. General words count only in a message that does not mention an account: 'Your account was flagged'
    concerns every prompt.
    """
    if error.marks & _FILTER_MARKS or _has_filter_key(error.data) or _FILTER_PHRASES.search(error.message):
        return True
    return bool(_FILTER_WORDS.search(error.message)) and not _ACCOUNT_WORDS.search(error.message)


def _has_filter_key(data: object, depth: int = 0) -> bool:
    """Return whether JSON has a key that only content filters use."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(data, Mapping):
        if any(value and str(key).lower() in _FILTER_KEYS for key, value in data.items()):
            return True
        return any(_has_filter_key(value, depth + 1) for value in data.values())
    if isinstance(data, list):
        return any(_has_filter_key(value, depth + 1) for value in data[:_MAX_ENTRIES])
    return False


def status_failure(
    host: str, status: int, error: ErrorBody, headers: Mapping[str, str], scrub: Scrubber = NO_SECRETS
) -> RequestFailure:
    """Return the failure that an HTTP status means.

    Args:
        host: The server's name.
        status: HTTP status, 300 or more.
        error: The reply's body.
        headers: The reply's headers, which may state how long to wait.
        scrub: Removes secrets from the reason.
    """
    return _failure(f"HTTP {status} from {host}", status, error, headers, scrub)


def body_failure(
    host: str, error: ErrorBody, headers: Mapping[str, str], scrub: Scrubber = NO_SECRETS
) -> RequestFailure:
    """Return the failure that a body reports although the HTTP status is 200, as gateways do with passed-on errors."""
    code = _status_in_body(error)
    if code is not None:
        return _failure(f"error {code} from {host}", code, error, headers, scrub)
    # Without a code the error may be temporary, unless it is about the prompt
    assumed_status = 400 if is_blocked(error) else 500
    return _failure(f"error from {host}", assumed_status, error, headers, scrub)


def _status_in_body(error: ErrorBody) -> int | None:
    for mark in error.marks:
        # int() raises for thousands of digits, which a hostile server may send
        if mark.isdecimal() and len(mark) <= 4 and 400 <= int(mark) <= 599:
            return int(mark)
    return None


def _failure(where: str, status: int, error: ErrorBody, headers: Mapping[str, str], scrub: Scrubber) -> RequestFailure:
    reason = f"{where}: {clean(error.message, scrub) or 'no reason given'}"
    failure = RequestFailure(reason, status=status, error_body=error)
    if status not in _NOT_ABOUT_THE_PROMPT and status < 500 and is_blocked(error):
        failure.blocked = True
    elif status == 401 or _is_out_of_credit(status, error):
        failure.fatal = True
    elif status in (403, 404) or _is_wrong_key(error):
        failure.denied = True
        # Of several servers behind one address, one may lack the model that the others have
        failure.again = status == 404
    elif status == 429:
        # A daily limit outlasts the run, so waiting is pointless
        failure.denied = _DAILY_LIMIT.search(error.message) is not None
        failure.again = not failure.denied
        failure.pause = requested_pause(headers, error)
        failure.strain = "refused"
    elif status in (408, 409) or status >= 500:
        failure.again = True
        failure.pause = requested_pause(headers, error)
        failure.strain = "troubled" if status >= 500 else "none"
    return failure


def _is_out_of_credit(status: int, error: ErrorBody) -> bool:
    """Return whether the account has no credit left, so that waiting does not help."""
    if status == 402 or error.marks & _OUT_OF_CREDIT_MARKS:
        return True
    return _OUT_OF_CREDIT_WORDS.search(error.message) is not None


def _is_wrong_key(error: ErrorBody) -> bool:
    if error.marks & _WRONG_KEY_MARKS:
        return True
    return _WRONG_KEY_WORDS.search(error.message) is not None


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_RETRY_IN_WORDS = re.compile(
    r"\b(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?(?:h|ms|m|s))+)(?![a-z])", re.IGNORECASE
)
_EPOCH = 1e9
"""Larger numbers are points in time, in seconds since 1970; more than a thousand times larger, in milliseconds."""


def requested_pause(headers: Mapping[str, str], error: ErrorBody) -> float | None:
    """Return how many seconds a server asks to wait; None if it does not.

    In this order: ``Retry-After``; ``retry-after-ms``; ``x-ratelimit-reset`` (OpenRouter sends it in the body as well);
    the reset time of a limit that is used up; Google's ``retryDelay``; words such as 'try again in 7m12s'.
    """
    seconds = _seconds_or_date(headers.get("retry-after"))
    if seconds is not None:
        return seconds
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    for candidate in _pause_candidates(headers, error):
        seconds = _duration(candidate)
        if seconds is not None:
            return seconds
    return None


def _pause_candidates(headers: Mapping[str, str], error: ErrorBody) -> Iterator[object]:
    yield headers.get("x-ratelimit-reset") or _nested_value(error.data, "x-ratelimit-reset")
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0":
            yield headers.get(f"x-ratelimit-reset-{limit}")
    yield _nested_value(error.data, "retrydelay")
    in_words = _RETRY_IN_WORDS.search(error.message)
    if in_words is not None:
        yield in_words[1]


def _seconds_or_date(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number, or a date; None if it is neither."""
    if value is None:
        return None
    number = _number(value)
    if number is not None:
        return max(0.0, number)
    date = email.utils.parsedate_tz(value)
    if date is None:
        return None
    try:
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None


def _number(text: object) -> float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    if math.isnan(number):
        return None
    return number


def _duration(text: object) -> float | None:
    """Return the seconds of '17ms', '7m12s', '37s', of a number of seconds, or until a point in time."""
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        return _seconds_until(number)
    match = _DURATION.fullmatch(str(text).strip().lower())
    if match is None or not any(match.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _seconds_until(number: float) -> float:
    """Return the seconds that a number means: a duration, or a point in time in seconds or milliseconds."""
    if number > 1000 * _EPOCH:
        number /= 1000
    if number > _EPOCH:
        number -= time.time()
    return max(0.0, number)


def _nested_value(data: object, name: str, depth: int = 0) -> object:
    """Return the first plain value under a key of nested JSON, in any case of letters; None if there is none."""
    if depth > _MAX_DEPTH:
        return None
    values: Iterable[object] = ()
    if isinstance(data, Mapping):
        for key, value in data.items():
            if str(key).lower() == name and isinstance(value, str | int | float):
                return value
        values = data.values()
    elif isinstance(data, list):
        values = data[:_MAX_ENTRIES]
    for value in values:
        nested = _nested_value(value, name, depth + 1)
        if nested is not None:
            return nested
    return None


def clean(text: object, scrub: Scrubber = NO_SECRETS) -> str:
    """Return a server's message on one line, without secrets and anything that looks like an API key."""
    return shortened(scrub(str(text)), _SHOWN_CHARACTERS)
