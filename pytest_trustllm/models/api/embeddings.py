"""Reads the replies of embedding servers, lists of numbers or base64, numbered or not, into vectors."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_trustllm.models.api import error_bodies
from pytest_trustllm.models.api.completions import token_count
from pytest_trustllm.models.api.error_bodies import ErrorBody

Vector = tuple[float, ...]


class InvalidEmbeddings(Exception):
    """A body does not hold the embeddings of the texts that were sent.

    Args:
        reason: What is wrong, in words.
        error: The error that the body reports; None if it reports none.
        miscounted: There are vectors, but not one for each text.
    """

    def __init__(self, reason: str, *, error: ErrorBody | None = None, miscounted: bool = False) -> None:
        super().__init__(reason)
        self.error = error
        self.miscounted = miscounted


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of the texts of one request.

    Attributes:
        vectors: In the order of the texts.
        tokens: Tokens of all texts together; None if unknown.
        model: The model that answered, according to the server.
    """

    vectors: tuple[Vector, ...]
    tokens: int | None = None
    model: str | None = None


def read(body: str, count: int) -> Embeddings:
    """Read the body of a reply with HTTP status 200.

    Args:
        body: The body.
        count: How many texts were sent.

    Raises:
        InvalidEmbeddings: It is something else.
    """
    try:
        document = error_bodies.parsed(body)
    except ValueError:
        raise InvalidEmbeddings(error_bodies.read(body).message) from None
    if not isinstance(document, Mapping):
        raise InvalidEmbeddings("")
    error = document.get("error")
    if error:
        error_source = document if isinstance(error, str) else error
        raise InvalidEmbeddings("", error=error_bodies.from_json(error_source))
    entries = document.get("data")
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidEmbeddings(error_bodies.from_json(document).message)
    if len(entries) != count:
        raise InvalidEmbeddings(f"{len(entries)} vectors for {count} texts", miscounted=True)
    vectors = tuple(_vector(entry.get("embedding")) for entry in _in_order(entries))
    usage = document.get("usage")
    model = document.get("model")
    return Embeddings(
        vectors,
        tokens=token_count(usage.get("prompt_tokens")) if isinstance(usage, Mapping) else None,
        model=model if isinstance(model, str) and model else None,
    )


def _in_order(entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return entries in the order of the texts.

    Raises:
        InvalidEmbeddings: Their numbers are not 0 to n - 1, so it is unknown which vector belongs to which text.
    """
    numbers = [entry.get("index") for entry in entries]
    # Some servers number no entry, or every one with 0; theirs are in order already. By ``repr``, as JSON may hold
    # values here that cannot be hashed
    if len({repr(number) for number in numbers}) == 1:
        return entries
    entries_by_number: dict[int, Mapping[str, Any]] = {}
    for number, entry in zip(numbers, entries, strict=True):
        if type(number) is int:
            entries_by_number[number] = entry
    if sorted(entries_by_number) != list(range(len(entries))):
        raise InvalidEmbeddings("vectors whose 'index' does not say which text they belong to", miscounted=True)
    return [entries_by_number[number] for number in range(len(entries))]


def _vector(embedding: object) -> Vector:
    """Return one vector.

    Raises:
        InvalidEmbeddings: It is empty, or not a list of numbers.
    """
    if isinstance(embedding, str):
        return _unpacked(embedding)
    if isinstance(embedding, list) and len(embedding) == 1 and isinstance(embedding[0], list):  # llama.cpp
        return _vector(embedding[0])
    if not isinstance(embedding, list) or not embedding:
        raise InvalidEmbeddings("an empty or missing vector")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in embedding):
        raise InvalidEmbeddings("a vector with entries that are not numbers")
    return tuple(map(float, embedding))


def _unpacked(text: str) -> Vector:
    try:
        data = base64.b64decode(text, validate=True)
        numbers = struct.unpack(f"<{len(data) // 4}f", data)
    except (binascii.Error, ValueError, struct.error):
        raise InvalidEmbeddings("a vector that is not base64 of 32-bit numbers") from None
    if not numbers:
        raise InvalidEmbeddings("an empty or missing vector")
    return numbers
