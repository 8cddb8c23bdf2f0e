"""Several verdicts of a judge on one response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_trustllm.errors import one_line
from pytest_trustllm.types import Response

_SHOWN_CAUSES = 2
ReadLabel = Callable[[Response], str | None]


def _wording(vote: Response) -> str | None:
    if vote.text is None:
        return None
    return vote.text.strip().rstrip(".").casefold()


def majority(votes: Sequence[Response], read_label: ReadLabel | None = None) -> tuple[Response, float | None]:
    """Return the verdict that more than half of the votes give, and the share of the votes for the commonest one.

    Args:
        votes: At least one.
        read_label: Reads a vote's verdict; a vote without one counts for none. None: replies that differ in case,
            blanks or the full stop at the end are the same verdict.

    Returns:
        The first vote for the verdict. Without a reply in any vote the first failure, and no share; without a majority
        of all votes, those that failed too, a failure that says so, and why votes failed.
    """
    read_label = read_label or _wording
    labels: list[str] = []
    first_votes: dict[str, Response] = {}
    for vote in votes:
        label = read_label(vote) if vote.error is None else None
        if label is not None:
            labels.append(label)
            first_votes.setdefault(label, vote)
    if not labels:
        return votes[0], None
    [(winner, count)] = Counter(labels).most_common(1)
    share = count / len(votes)
    if 2 * count <= len(votes):
        verdicts = ", ".join(repr(one_line(label, 40)) for label in first_votes)
        why = f"no majority among the judge's {len(votes)} votes: {verdicts}{_without_reply(votes)}"
        return Response(error=why), share
    return first_votes[winner], share


def _without_reply(votes: Sequence[Response]) -> str:
    """Return how many votes are no reply at all, and why; empty if all are replies."""
    causes = [cause for vote in votes if (cause := vote.error or vote.unanswered) is not None]
    if not causes:
        return ""
    shown = ", ".join(one_line(cause, 100) for cause in list(dict.fromkeys(causes))[:_SHOWN_CAUSES])
    return f"; {len(causes)} without a reply: {shown}"
