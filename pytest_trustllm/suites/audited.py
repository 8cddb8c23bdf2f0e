"""Rows about a saved run (``--trust-audit``): what was found out about it, and its samples that are asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args

from pytest_trustllm.suites.rows import DataRow
from pytest_trustllm.types import Again, Generation, Messages

AuditKind = Literal["provenance", "recomputation", "signature", "replay", "claims"]
AUDIT_KINDS: tuple[AuditKind, ...] = get_args(AuditKind)
REPLAY: AuditKind = "replay"


class AuditedRun(TypedDict):
    """A saved run and its rows, as plain JSON: one process makes them, and the others read them.

    Keys:
        file: The results file, as messages name it.
        sha256: Of its bytes.
        run: Id of the run.
        rows: Kind -> rows. A row of ``replay`` has ``of`` (task), ``sample``, ``seed``, ``generation``, ``prompts``
            and ``responses``; every other one ``title``, ``holds`` (null: not known), ``found`` and, if the question
            does not arise, ``applies: false``.
    """

    file: str
    sha256: str
    run: str
    rows: dict[AuditKind, list[dict[str, Any]]]


def prompts_of(row: DataRow) -> tuple[Messages, ...]:
    """Return the chats of a row of ``replay``."""
    return tuple(tuple((str(role), str(content)) for role, content in prompt) for prompt in row["prompts"])


def again_of(row: DataRow) -> Again:
    """Return what a row of ``replay`` repeats."""
    generation: Mapping[str, Any] = row["generation"]
    return Again(
        task=row["of"],
        sample=row["sample"],
        seed=row["seed"],
        generation=Generation(generation["temperature"], generation["max_new_tokens"], tuple(generation["stop"])),
    )
