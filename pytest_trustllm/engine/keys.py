"""How test processes and the model host name a sample of one model."""

from __future__ import annotations

from typing import NamedTuple


class SampleKey(NamedTuple):
    """The parts of a key.

    Attributes:
        model: Label of the model under test.
        task: ``dimension/task``.
        sample: Id of the sample within its task.
    """

    model: str
    task: str
    sample: str


def key_of(model: str, task: str, sample: str) -> str:
    """Return the key of one sample of one model."""
    return "|".join((model, task, sample))


def split_key(key: str) -> SampleKey:
    """Return the parts of a key."""
    # From the right: a model's label may contain the separator, ids of tasks and samples do not.
    return SampleKey(*key.rsplit("|", 2))
