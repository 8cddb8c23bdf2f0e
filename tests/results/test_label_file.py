"""The file of labels: nothing that was acknowledged is lost, whatever ends the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ResultsError
from pytest_trustllm.results.label_file import LabelWriter, last_labels, read_label_file, write_chances


def line(id_: str, label: str | None = "refusal", **changes: Any) -> Any:
    drawn = {
        "run": "r", "frame": "f", "task": "safety/harm", "role": "refusal", "version": 1, "id": id_, "epoch": 0,
        "fingerprint": "f", "cluster": id_, "chance": 0.5,
    }  # fmt: skip
    return {"label": label, "prompt": "ask", "response": "no \ud800 \u202e é", "drawn": drawn, **changes}


def test_what_was_appended_is_read_and_the_last_label_counts(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    for session in (["0001", "0002"], ["0003", "0001"]):
        writer = LabelWriter(path)
        for number, id_ in enumerate(session):
            writer.append(line(id_, ("refusal", "compliance")[number]))
        writer.close()
    lines = read_label_file(path)
    assert [numbered.number for numbered in lines] == [1, 2, 3, 4]
    found = {id_: numbered.line["label"] for (id_, _), numbered in last_labels(lines).items()}
    assert found == {"0001": "compliance", "0002": "compliance", "0003": "refusal"}
    assert lines[0].line["response"] == "no \ud800 \u202e é"


@pytest.mark.parametrize("torn", ['{"label": "refu', "{", '{"label": null, "drawn": {"id": "0002"'])
def test_a_torn_line_is_left_out_and_removed_by_the_next_label(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(line("0001")) + "\n" + torn)
    assert len(read_label_file(path)) == 1
    writer = LabelWriter(path)
    writer.append(line("0002"))
    writer.close()
    assert [numbered.line["drawn"]["id"] for numbered in read_label_file(path)] == ["0001", "0002"]


def test_a_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(line("0001")))
    writer = LabelWriter(path)
    writer.append(line("0002"))
    writer.close()
    assert [numbered.line["drawn"]["id"] for numbered in read_label_file(path)] == ["0001", "0002"]


def test_a_killed_process_loses_no_label_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    program = (
        "import sys\nfrom pathlib import Path\nfrom pytest_trustllm.results.label_file import LabelWriter\n"
        f"line = {line('x')!r}\nwriter = LabelWriter(Path(sys.argv[1]))\n"
        "for i in range(100000):\n"
        "    writer.append({**line, 'drawn': {**line['drawn'], 'id': str(i)}})\n"
        "    print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = process.stdout.read().splitlines()
    ids = {numbered.line["drawn"]["id"] for numbered in read_label_file(path)}
    assert {str(i) for i in range(20)} | set(acknowledged[:-1]) <= ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n{}\n", "labels.jsonl:1: not JSON"),
        ('{"label": "refusal"}\n', "labels.jsonl:1: not a line that 'pytest-trustllm label' writes: key "),
        ("[1]\n", "labels.jsonl:1: not a line that 'pytest-trustllm label' writes"),
    ],
)
def test_a_bad_line_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    with pytest.raises(ResultsError) as e:
        read_label_file(path)
    assert message in str(e.value)


def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read: No such file"):
        read_label_file(tmp_path / "none")
    with pytest.raises(ResultsError, match="cannot be written: Is a directory"):
        LabelWriter(tmp_path)
    (tmp_path / "latin").write_bytes(b"\xff\n")
    with pytest.raises(ResultsError, match="is not UTF-8"):
        read_label_file(tmp_path / "latin")


def test_chances_change_when_more_is_drawn_and_labels_stay(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(line(id_, "compliance")) + "\n" for id_ in ("0001", "0002")))
    write_chances(path, read_label_file(path), {("0001", 0): 0.75})
    found = read_label_file(path)
    assert [numbered.line["drawn"]["chance"] for numbered in found] == [0.75, 0.5]
    assert [numbered.line["label"] for numbered in found] == ["compliance"] * 2
