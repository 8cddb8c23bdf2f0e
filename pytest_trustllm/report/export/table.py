"""The samples of a run as a table: CSV for spreadsheets, Parquet for data frames."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_trustllm.config.files import replacing
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import ResponseEntry, SampleLine, ScoreEntry

COLUMNS = (
    "task",
    "id",
    "status",
    "value",
    "answer",
    "reason",
    "group",
    "prompt",
    "response",
    "reasoning",
    "error",
    "verdicts",
    "input_tokens",
    "output_tokens",
    "seconds",
    "cached",
    "fingerprint",
)
_NUMBERS = frozenset({"value", "seconds", "input_tokens", "output_tokens"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection), full-width forms included."""
_CHUNK = 2000
"""Rows per row group of a Parquet file: only so many are held in memory."""


def rows(samples: Iterable[SampleLine]) -> Iterator[dict[str, Any]]:
    """Yield one flat row per score: a sample that other tasks score too has a row for each of them."""
    for sample in samples:
        yield _row(sample, sample["task"], sample, sample["status"])
        for task, score in sample["also"].items():
            # the score of another task has no status of its own
            status = "unscored" if score["value"] is None else "scored"
            yield _row(sample, task, score, status)


def csv_lines(samples: Iterable[SampleLine]) -> Iterator[str]:
    """Yield the lines of a CSV file (RFC 4180, UTF-8).

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows(samples):
        yield line.getvalue()
        line.seek(0)
        line.truncate()
        cells = [_cell(name, row[name]) for name in COLUMNS]
        writer.writerow(cells)
    yield line.getvalue()


def write_parquet(path: Path, samples: Iterable[SampleLine]) -> None:
    """Write a Parquet file a few thousand rows at a time; an error leaves no partial file.

    Raises:
        ResultsError: pyarrow is missing, or the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ResultsError("export: 'parquet' needs pyarrow; pip install 'pytest-trustllm[parquet]'") from None
    types = {
        "value": pyarrow.float64(),
        "seconds": pyarrow.float64(),
        "cached": pyarrow.bool_(),
        "input_tokens": pyarrow.int64(),
        "output_tokens": pyarrow.int64(),
    }
    text = pyarrow.string()
    # a fixed schema: a column that is empty in the first chunk would otherwise have no type
    schema = pyarrow.schema([(name, types.get(name, text)) for name in COLUMNS])
    encodable = map(_encodable, rows(samples))
    with replacing(path, "-o") as new, parquet.ParquetWriter(new, schema, compression="zstd") as writer:
        while chunk := list(islice(encodable, _CHUNK)):
            table = pyarrow.Table.from_pylist(chunk, schema)
            writer.write_table(table)


def _row(sample: SampleLine, task: str, score: ScoreEntry, status: str) -> dict[str, Any]:
    """Return the row of one score of a sample.

    Args:
        sample: A line of the samples file.
        task: The task that gave the score.
        score: The sample's own score, or that of another task.
        status: The sample's own status; for another task ``scored`` or ``unscored``.
    """
    responses = sample.get("responses", [])
    return {
        "task": task,
        "id": sample["id"],
        "status": status,
        "value": score["value"],
        "answer": score["answer"],
        "reason": score["reason"],
        "group": _json(sample["group"]),
        "prompt": _prompt(sample),
        "response": _joined(_values(responses, "text")),
        "reasoning": _joined(_values(responses, "reasoning")),
        "error": _joined(_values(responses, "error")),
        "verdicts": _json(sample.get("verdicts")),
        "input_tokens": _sum(_values(responses, "input_tokens")),
        "output_tokens": _sum(_values(responses, "output_tokens")),
        "seconds": _sum(_values(responses, "seconds")),
        "cached": _are_cached(responses),
        "fingerprint": sample["fingerprint"],
    }


def _prompt(sample: SampleLine) -> str | None:
    """Return the messages of a chat as one text; a pair has two chats."""
    texts = []
    for chat in sample.get("prompts", ()):
        contents = [content for _, content in chat]
        texts.append("\n\n".join(contents))
    return _joined(texts)


def _values(responses: Sequence[ResponseEntry], field: str) -> list[Any]:
    """Return a field of all responses that have it."""
    values: list[Any] = []
    for response in responses:
        value = response.get(field)
        # a failed response has no text, and an API may not report its tokens
        if value is not None:
            values.append(value)
    return values


def _are_cached(responses: Sequence[ResponseEntry]) -> bool:
    """Return whether all responses came from the store; False if there are none."""
    if not responses:
        return False
    return all(response.get("cached", False) for response in responses)


def _joined(texts: Sequence[str]) -> str | None:
    """Return a single text unchanged, several as a JSON list, and None if there are none."""
    if not texts:
        return None
    if len(texts) == 1:
        return texts[0]
    return json.dumps(texts, ensure_ascii=False)


def _json(value: object) -> str | None:
    if not value:
        return None
    return json.dumps(value, ensure_ascii=False)


def _sum(numbers: Sequence[float]) -> float | None:
    """Return the sum; None if there are no numbers, because unknown is not 0."""
    if not numbers:
        return None
    return sum(numbers)


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if name in _NUMBERS:
        return repr(value)  # all digits; and a negative number is not a formula
    # not every CSV reader accepts a NUL
    text = str(value).replace("\0", "\\x00")
    if text.startswith(_FORMULA):
        return f"'{text}"
    return text


def _encodable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose texts can be encoded as UTF-8: a lone surrogate in a model's text becomes an escape."""
    encodable = dict(row)
    for name, value in row.items():
        if isinstance(value, str):
            encodable[name] = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return encodable
