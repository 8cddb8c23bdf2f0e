"""Several verdicts of a judge on one response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pytest_trustllm.errors import one_line
from pytest_trustllm.types import Response

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
        of all votes, those that failed too, a failure that says so.
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
        return Response(error=f"no majority among the judge's {len(votes)} votes: {verdicts}"), share
    return first_votes[winner], share
