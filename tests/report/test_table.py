"""Samples as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.report.export import table


def read(samples: list[dict[str, Any]]) -> list[dict[str, str]]:
    text = "".join(table.csv_lines(samples))
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_one_row_per_score_with_everything_known() -> None:
    samples = list(synthetic_run.samples(90))
    rows = read(samples)
    also = sum(len(s["also"]) for s in samples)
    assert len(rows) == 90 + also
    first, sample = rows[0], samples[0]
    assert first["task"] == sample["task"]
    assert first["prompt"] == sample["prompts"][0][0][1]
    assert first["response"] == sample["responses"][0]["text"]
    assert first["output_tokens"] == "300"
    pair = next(r for r in rows if r["task"] == "robustness/advglue" and r["status"] != "error")
    assert pair["response"].startswith('["')
    assert pair["output_tokens"] == "600"
    toxicity = next(r for r in rows if r["task"] == "safety/toxicity" and r["status"] == "scored")
    assert toxicity["value"] == "0.125"
    assert toxicity["prompt"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "＝1+1"])
def test_a_spreadsheet_sees_no_formula(text: str) -> None:
    sample = next(synthetic_run.samples(1))
    sample.update(answer=text, responses=[{"text": text}], value=-0.5)
    row = read([sample])[0]
    assert row["answer"] == row["response"] == f"'{text}"
    assert row["value"] == "-0.5"


@pytest.mark.parametrize("text", ['a "quoted", line\r\nand another', "nul \0 end", "漢字 é", ""])
def test_any_text_comes_back(text: str) -> None:
    sample = {**next(synthetic_run.samples(1)), "responses": [{"text": text}]}
    assert read([sample])[0]["response"] == text.replace("\0", "\\x00")


def test_a_sample_without_transcript_is_a_row() -> None:
    sample = {**next(synthetic_run.samples(1)), "status": "error", "value": None, "reason": "broken"}
    for text in ("prompts", "responses", "verdicts"):
        del sample[text]
    (row,) = read([sample])
    assert (row["response"], row["value"], row["reason"]) == ("", "", "broken")


def test_parquet_keeps_types_and_odd_text(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install pyarrow")
    samples = list(synthetic_run.samples(4100))
    samples[0]["responses"] = [{"text": "lone \ud800 =1+1", "seconds": 0.5}]
    table.write_parquet(tmp_path / "deep" / "s.parquet", samples)
    found = parquet.read_table(tmp_path / "deep" / "s.parquet")
    assert found.num_rows == sum(1 + len(s["also"]) for s in samples)
    assert found.column_names == list(table.COLUMNS)
    first = found.slice(0, 1).to_pylist()[0]
    assert first["response"] == "lone \\ud800 =1+1"
    assert first["value"] is None or isinstance(first["value"], float)
    assert first["seconds"] == 0.5


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ResultsError, match=r"needs pyarrow; pip install 'pytest-trustllm\[parquet\]'"):
        table.write_parquet(tmp_path / "s.parquet", [])
    assert list(tmp_path.iterdir()) == []


def test_reasoning_has_a_column_of_its_own() -> None:
    sample = next(synthetic_run.samples(1))
    sample["responses"] = [{"text": "No.", "reasoning": "They ask."}]
    (row,) = read([sample])
    assert (row["response"], row["reasoning"]) == ("No.", "They ask.")
