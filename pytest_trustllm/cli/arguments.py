"""Arguments that several commands take, and readers of values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_trustllm.models.base import LoadSettings

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``add_subparsers`` returns; argparse has no public name for it."""


def add_models_file(parser: argparse.ArgumentParser) -> None:
    """Let the user name a models file."""
    parser.add_argument(
        "--models", metavar="FILE", type=Path, help="your models file, as the ini option trust_models names it"
    )


def add_load_settings(parser: argparse.ArgumentParser) -> None:
    """Let the user say how a model is loaded."""
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda|mps", default="auto", help="of a local model (default: auto)"
    )
    parser.add_argument("--batch-size", metavar="N", type=count, help="texts that a local model computes at once")
    parser.add_argument("--max-concurrency", metavar="N", type=count, help="requests in flight to an API or a callable")


def load_settings(args: argparse.Namespace) -> LoadSettings:
    """Return what :func:`add_load_settings` read."""
    from pytest_trustllm.models.base import LoadSettings

    return LoadSettings(args.device, args.batch_size, args.max_concurrency)


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    found = int(text) if text.isascii() and text.isdigit() else 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return found


def seconds(text: str) -> float:
    """Read a time above 0, at most an hour."""
    return _between(text, 0.0, 3600.0, "a time in seconds above 0")


def confidence(text: str) -> float:
    """Read a confidence level in (0, 1)."""
    return _between(text, 0.0, 1.0, "a number between 0 and 1, such as 0.95")


def _between(text: str, low: float, high: float, words: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = low
    if not low < found < high:
        raise argparse.ArgumentTypeError(f"expected {words}, found {text!r}")
    return found


def rate_of(text: str) -> tuple[float, int]:
    """Read ``RATE:N``."""
    rate, colon, n = text.partition(":")
    try:
        found = float(rate)
    except ValueError:
        found = -1.0
    if not colon or not 0 <= found <= 1 or not (n.isascii() and n.isdigit() and int(n) > 0):
        raise argparse.ArgumentTypeError(
            f"expected RATE:N, a share in [0, 1] and the number of responses that it comes from, such as 0.82:1400; "
            f"found {text!r}"
        )
    return found, int(n)
