"""The texts of a run on disk: what was written can be read, what did not fit is known to be lost."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_trustllm.engine.transcript import TranscriptFile, sample_lines

TEXTS = [json.dumps({"responses": [{"text": f"answer {n} " + "\u00e9" * 100}]}) for n in range(20)]


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond so many bytes: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_texts_are_read_back_before_and_after_they_are_written(tmp_path: Path) -> None:
    transcript = TranscriptFile(tmp_path / "t")
    places = [transcript.add(f"k\u00fc {n}", text) for n, text in enumerate(TEXTS)]
    assert (tmp_path / "t").stat().st_size == 0  # lines wait for one another
    assert [transcript.read(*place) for place in places] == [json.loads(text) for text in TEXTS]
    places.append(transcript.add("more", TEXTS[0]))
    assert transcript.read(*places[-1]) == json.loads(TEXTS[0])
    assert transcript.read(*places[3]) == json.loads(TEXTS[3])


def test_much_text_does_not_wait_for_a_reader(tmp_path: Path) -> None:
    transcript = TranscriptFile(tmp_path / "t")
    transcript.add("k", json.dumps("x" * 300_000))
    assert (tmp_path / "t").stat().st_size > 300_000


def test_a_full_disk_costs_the_lines_that_did_not_fit_and_no_other(
    tmp_path: Path, limit: Callable[[int], None]
) -> None:
    path = tmp_path / "t"
    transcript = TranscriptFile(path)
    places = [transcript.add(str(n), text) for n, text in enumerate(TEXTS[:10])]
    transcript.flush()
    assert transcript.lost is None
    limit(path.stat().st_size + 2 * len(TEXTS[0]) + 50)  # two more lines fit, and half of a third
    places += [transcript.add(str(n), text) for n, text in enumerate(TEXTS[10:], 10)]
    transcript.flush()
    assert transcript.lost == "File too large"
    limit(1 << 30)  # room comes too late: a line after half a line would be taken for its end
    places.append(transcript.add("late", TEXTS[0]))
    found = [transcript.read(*place) for place in places]
    assert found == [json.loads(text) for text in TEXTS[:12]] + [None] * 9
    lines = [json.loads(line) for line in sample_lines({str(n): '{"a": 1}' for n in range(20)}, path)]
    assert lines == [{"a": 1, **json.loads(text)} for text in TEXTS[:12]] + [{"a": 1}] * 8
