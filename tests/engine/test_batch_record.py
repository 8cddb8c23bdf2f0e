"""What is known of batches survives the end of a process at any byte, and is shared with other processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pytest_trustllm.engine.batch_record import BatchRecord
from pytest_trustllm.models.api.batches import BatchLine
from pytest_trustllm.types import digest

ONE, TWO, THREE = (digest(name) for name in ("one", "two", "three"))
LOST = BatchLine(None, "{}")


def record_of(directory: Path) -> BatchRecord:
    return BatchRecord(BatchRecord.beside(directory / "m-0123.jsonl"), {"id": "m"})


def test_every_beginning_of_the_file_is_a_state_from_which_nothing_is_submitted_twice(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    submission = record.submitted({ONE: ["model", "stop"], TWO: ["model"]})
    intended = record.path.stat().st_size
    record.created(submission, "batch_7")
    created = record.path.stat().st_size
    record.collect(submission, {ONE: BatchLine(200, "yes")}, LOST)
    record.close()
    whole = record.path.read_bytes()
    for size in range(intended, len(whole) - 1):  # a line of which only the end is missing is whole
        record.path.write_bytes(whole[:size])
        again = record_of(tmp_path)
        # as long as the last line is not whole, the batch is open, and is collected again
        assert again.open[submission.name].batch == ("batch_7" if size >= created - 1 else None)
        assert again.batch_of(ONE) is again.batch_of(TWO) is again.open[submission.name]
        assert again.collected(ONE) is None
        again.close()
    record.path.write_bytes(whole)
    last = record_of(tmp_path)
    assert last.open == {}
    collected = last.collected(ONE)
    assert collected is not None
    assert (collected.line, collected.sent) == (BatchLine(200, "yes"), ["model", "stop"])
    last.close()


def test_lines_that_the_batch_did_not_have_are_ignored_and_missing_ones_noted(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    submission = record.submitted({ONE: ["model"], TWO: ["model"]})
    record.created(submission, "b")
    record.collect(submission, {ONE: BatchLine(200, "yes"), THREE: BatchLine(200, "forged"), "x": LOST}, LOST)
    assert record.collected(THREE) is None
    missing = record.collected(TWO)
    assert missing is not None
    assert missing.line == LOST
    assert record.tries == {ONE: 1, TWO: 1}
    record.close()


def test_a_request_that_is_submitted_again_has_no_answer_until_it_gets_one(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    first = record.submitted({ONE: ["model"]})
    record.collect(first, {}, LOST)
    second = record.submitted({ONE: ["model"]})
    assert record.collected(ONE) is None
    record.collect(second, {ONE: BatchLine(200, "late")}, LOST)
    answer = record.collected(ONE)
    assert answer is not None
    assert answer.line.body == "late"
    assert record.tries[ONE] == 2
    record.forget([ONE])
    record.close()
    again = record_of(tmp_path)
    assert again.collected(ONE) is None
    assert again.tries[ONE] == 0
    third = again.submitted({ONE: ["model"]})
    again.collect(third, {ONE: BatchLine(200, "last")}, LOST)
    again.close()
    answer = record_of(tmp_path).collected(ONE)
    assert answer is not None
    assert answer.line.body == "last"


def test_a_batch_that_never_was_leaves_its_requests_free(tmp_path: Path) -> None:
    record = record_of(tmp_path)
    submission = record.submitted({ONE: ["model"]})
    record.drop(submission)
    assert record.batch_of(ONE) is None
    assert record.tries[ONE] == 0
    record.close()


def test_two_that_share_a_file_take_turns(tmp_path: Path) -> None:
    first, second = record_of(tmp_path), record_of(tmp_path)
    events: list[str] = []

    async def submit(record: BatchRecord, name: str) -> None:
        async with record.locked():
            if record.batch_of(ONE) is None:
                await asyncio.sleep(0.05)  # the file is uploaded
                record.submitted({ONE: ["model"]})
                events.append(name)

    async def both() -> None:
        await asyncio.gather(submit(first, "first"), submit(second, "second"))

    asyncio.run(both())
    assert len(events) == 1
    first.close()
    second.close()
