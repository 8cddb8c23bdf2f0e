"""The samples of a run as a table: CSV for spreadsheets, Parquet for data frames."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.results import replacing

COLUMNS = (
    *("task", "id", "status", "value", "answer", "reason", "group"),
    *("prompt", "response", "error", "verdicts"),
    *("input_tokens", "output_tokens", "seconds", "cached", "fingerprint"),
)
_NUMBERS = frozenset({"value", "seconds", "input_tokens", "output_tokens"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_CHUNK = 2000


def rows(samples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one flat row per score: a sample that a further task reads too gives a row of that task as well."""
    for sample in samples:
        yield _row(sample)
        for task, score in (sample.get("also") or {}).items():
            status = "scored" if score.get("value") is not None else "unscored"
            yield _row({**sample, "status": status, "answer": None, "reason": None, **score, "task": task})


def csv_lines(samples: Iterable[Mapping[str, Any]]) -> Iterator[str]:
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
        writer.writerow([_cell(name, row[name]) for name in COLUMNS])
    yield line.getvalue()


def write_parquet(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Write a Parquet file, whole or not at all, a few thousand rows at a time.

    Raises:
        ResultsError: pyarrow is missing, or the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ResultsError("export: 'parquet' needs pyarrow; pip install 'pytest-trustllm[parquet]'") from None
    types = {
        **dict.fromkeys(COLUMNS, pyarrow.string()),
        "value": pyarrow.float64(),
        "seconds": pyarrow.float64(),
        "cached": pyarrow.bool_(),
        **dict.fromkeys(("input_tokens", "output_tokens"), pyarrow.int64()),
    }
    schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
    found = rows(samples)
    with replacing(path, "-o") as new, parquet.ParquetWriter(new, schema, compression="zstd") as writer:
        while chunk := [_encodable(row) for row in islice(found, _CHUNK)]:
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema))


def _row(sample: Mapping[str, Any]) -> dict[str, Any]:
    replies = sample.get("responses") or ()
    return {
        "task": sample.get("task"),
        "id": sample.get("id"),
        "status": sample.get("status"),
        "value": sample.get("value"),
        "answer": sample.get("answer"),
        "reason": sample.get("reason"),
        "group": _json(sample.get("group")),
        "prompt": _joined("\n\n".join(str(m[1]) for m in chat) for chat in sample.get("prompts") or ()),
        "response": _joined(r["text"] for r in replies if r.get("text") is not None),
        "error": _joined(r["error"] for r in replies if r.get("error") is not None),
        "verdicts": _json(sample.get("verdicts")),
        "input_tokens": _sum(replies, "input_tokens"),
        "output_tokens": _sum(replies, "output_tokens"),
        "seconds": _sum(replies, "seconds"),
        "cached": bool(replies) and all(r.get("cached", False) for r in replies),
        "fingerprint": sample.get("fingerprint"),
    }


def _joined(texts: Iterable[str]) -> str | None:
    """Return one text as it is, several as a JSON list, none as nothing."""
    found = list(texts)
    return None if not found else found[0] if len(found) == 1 else json.dumps(found, ensure_ascii=False)


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None


def _sum(replies: Iterable[Mapping[str, Any]], name: str) -> Any:
    found = [r[name] for r in replies if r.get(name) is not None]
    return sum(found) if found else None


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if name in _NUMBERS:
        return repr(value)
    text = str(value).replace("\0", "\\x00")
    return f"'{text}" if text.startswith(_FORMULA) else text


def _encodable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose texts are UTF-8: a lone surrogate of a model's text becomes an escape."""
    return {
        k: v.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(v, str) else v for k, v in row.items()
    }
