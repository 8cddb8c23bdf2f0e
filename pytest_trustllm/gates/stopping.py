"""The rules by which a gate may be decided before all of its samples are asked, as users write them."""

from __future__ import annotations

from typing import Literal

from pytest_trustllm.errors import GateError

Stop = Literal["exact", "never"] | float
"""When to stop asking: ``exact``, ``never``, or the alpha of the verdicts that may be wrong."""
LEAST_ALPHA, MOST_ALPHA = 1e-6, 0.5


def parse_stop(text: str, where: str) -> Stop:
    """Read ``exact``, ``never`` or an alpha.

    Args:
        text: What the user wrote.
        where: Name of the option, for messages.

    Raises:
        GateError: It is none of these.
    """
    if text == "exact":
        return "exact"
    if text == "never":
        return "never"
    try:
        alpha = float(text)
    except ValueError:
        raise GateError(f"{where}: {text!r} is not known; write exact, never, or an alpha such as 0.05") from None
    if not LEAST_ALPHA <= alpha <= MOST_ALPHA:
        raise GateError(
            f"{where}: an alpha of {text} is outside [{LEAST_ALPHA:g}, {MOST_ALPHA:g}]; write 0.05, or exact"
        )
    return alpha
