"""Arguments that several commands share, and the parsers of their values."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_trustllm.models.base import LoadSettings

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``add_subparsers`` returns; argparse has no public name for it."""


def add_models_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--models``."""
    parser.add_argument(
        "--models", metavar="FILE", type=Path, help="your models file, like the ini option trust_models"
    )


def add_load_settings(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that determine how a model is loaded."""
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda|mps", default="auto", help="device of a local model (default: auto)"
    )
    parser.add_argument("--batch-size", metavar="N", type=count, help="texts that a local model computes at once")
    parser.add_argument("--max-concurrency", metavar="N", type=count, help="requests in flight to an API or a callable")


def load_settings(args: argparse.Namespace) -> LoadSettings:
    """Return what :func:`add_load_settings` read."""
    from pytest_trustllm.models.base import LoadSettings

    return LoadSettings(args.device, args.batch_size, args.max_concurrency)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    # int() alone would also accept " 4 ", "+4", "1_000" and digits of other scripts
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return number


def address(text: str) -> str:
    """Parse the address of a page, which others will follow as a link."""
    # nothing in it may end the link's parentheses or begin something else
    if not text.startswith(("https://", "http://")) or any(char in text for char in " ()<>\n\r`|\"'\\"):
        raise argparse.ArgumentTypeError(f"expected an address that begins with https://, found {text!r}")
    return text


def seconds(text: str) -> float:
    """Parse a time in seconds, above 0 and below an hour."""
    return _between(text, 0.0, 3600.0, "a time in seconds above 0")


def confidence(text: str) -> float:
    """Parse a confidence level in (0, 1)."""
    return _between(text, 0.0, 1.0, "a number between 0 and 1, such as 0.95")


def _between(text: str, low: float, high: float, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan  # which is not between any two numbers
    if not low < number < high:
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return number


def rate_of(text: str) -> tuple[float, int]:
    """Parse ``RATE:N``."""
    rate_text, _, count_text = text.partition(":")
    try:
        rate = float(rate_text)
    except ValueError:
        rate = math.nan
    responses = int(count_text) if count_text.isascii() and count_text.isdigit() else 0
    if not 0 <= rate <= 1 or responses < 1:
        raise argparse.ArgumentTypeError(
            f"expected RATE:N, a share in [0, 1] and the number of responses that it comes from, such as 0.82:1400; "
            f"found {text!r}"
        )
    return rate, responses
