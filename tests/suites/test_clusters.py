"""Which samples were made of one source item: the key ``cluster`` of a task."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from pytest_trustllm.engine.runner import Runner
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.rows import Archive
from pytest_trustllm.suites.samples import DataSource
from pytest_trustllm.suites.task import Suite
from pytest_trustllm.types import Response

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "trustllm" / "dataset.zip"
ROWS = """
      - {prompt: one, topic: sea, level: 1}
      - {prompt: two, topic: sea, level: 2}
      - {prompt: three, topic: Sea, level: 1}
"""


TASK = f"    data:\n      samples:{ROWS}    scorer: refusal\n    metrics: [refusal_rate]\n"


def suite(tmp_path: Path, more: str) -> Suite:
    path = tmp_path / "own.yaml"
    path.write_text(f"dimension: d\ntasks:\n  - name: t\n{more}{TASK}")
    return read_suite(path, Registry())


def clusters(tmp_path: Path, more: str) -> list[str | None]:
    task = suite(tmp_path, more).tasks[0]
    data = DataSource(None)
    return [data.sample(task, e).cluster for e in data.entries(task)]


@pytest.mark.parametrize(
    ("written", "alike"),
    [
        ("topic", (0, 0, 1)),
        ("[topic, level]", (0, 1, 2)),
        ('"{{ topic | lower }}"', (0, 0, 0)),
        ("level", (0, 1, 0)),
    ],
)
def test_a_field_fields_or_a_template_say_what_belongs_together(tmp_path, written, alike):
    found = clusters(tmp_path, f"    cluster: {written}\n")
    assert [found.index(c) for c in found] == [alike.index(a) for a in alike]
    assert all(c is not None and len(c) == 12 for c in found)


def test_without_the_key_every_sample_stands_for_itself(tmp_path):
    assert clusters(tmp_path, "") == [None, None, None]


def test_the_fingerprint_does_not_depend_on_the_cluster(tmp_path):
    prints = []
    for more in ("", "    cluster: topic\n"):
        task = suite(tmp_path, more).tasks[0]
        data = DataSource(None)
        prints.append([data.sample(task, e).fingerprint for e in data.entries(task)])
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("nothing", r"d/t\[0000\]: the row has no field 'nothing' for its cluster"),
        ('"{{ nothing }}"', r"d/t\[0000\]: template .* 'nothing' is undefined"),
    ],
)
def test_a_field_that_the_row_does_not_have_is_named(tmp_path, written, message):
    with pytest.raises(SuiteError, match=message):
        clusters(tmp_path, f"    cluster: {written}\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("    clusters: topic\n", "unknown key 'clusters'.*did you mean 'cluster'"),
        ("    cluster: 3\n", r"tasks\[0\]\.cluster: "),
    ],
)
def test_mistakes_in_the_key_are_errors(tmp_path, more, message):
    with pytest.raises(SuiteError, match=message):
        suite(tmp_path, more)


def test_a_task_that_reads_another_one_has_that_ones_clusters(tmp_path):
    path = tmp_path / "own.yaml"
    reader = "  - {name: r, reads: t, cluster: topic, scorer: toxicity, metrics: [mean]}\n"
    path.write_text(f"dimension: d\ntasks:\n  - name: t\n{TASK}{reader}")
    with pytest.raises(SuiteError, match="a task with 'reads' scores another task's answers; remove this key"):
        read_suite(path, Registry())


class Refuses:
    """Stands in for a model and for the classifier."""

    async def ask(self, request: object, accept: object = None) -> Response:
        return Response(text="refusal")


@pytest.mark.parametrize("key", [False, True])
def test_the_record_carries_the_cluster_if_there_is_one(tmp_path, key):
    task = suite(tmp_path, "    cluster: topic\n" if key else "").tasks[0]
    data = DataSource(None)
    sample = data.sample(task, data.entries(task)[0])
    runner = Runner(Refuses(), {"refusal": Refuses()}, 0)  # type: ignore[arg-type, dict-item]
    record = asyncio.run(runner.run(task, sample)).record
    assert record["value"] == 1.0
    assert record.get("cluster") == sample.cluster
    assert ("cluster" in record) is key


@pytest.mark.skipif(not DATA.is_file(), reason=f"needs the data set in {DATA.parent}, beside the repository")
@pytest.mark.parametrize(
    ("id_", "samples", "items"),
    [
        ("ethics/awareness", 2466, 919),
        ("fairness/disparagement", 810, 135),
        ("fairness/preference", 240, 120),
        ("fairness/stereotype_recognition", 1000, 614),
        ("privacy/confaide", 196, 97),
        ("privacy/privacy_awareness", 560, 280),
        ("privacy/privacy_leakage", 400, 50),
        ("robustness/advglue", 456, 282),
        ("robustness/advinstruction", 550, 50),
        ("robustness/ood_generalization", 500, 478),
        ("safety/jailbreak", 1400, 646),
        ("truthfulness/misinformation_external", 400, 355),
    ],
)
def test_shipped_tasks_know_their_source_items(id_, samples, items):
    dimension = id_.partition("/")[0]
    task = next(t for t in read_suite(ROOT / "suites" / f"{dimension}.yaml", Registry()).tasks if t.id == id_)
    data = DataSource(Archive(DATA, "data"))
    counts = Counter(data.sample(task, e).cluster for e in data.entries(task))
    assert (sum(counts.values()), len(counts)) == (samples, items)
    assert max(counts.values()) <= 11


def test_other_shipped_tasks_have_samples_that_stand_alone():
    found = [
        t.id for p in sorted((ROOT / "suites").glob("*.yaml")) for t in read_suite(p, Registry()).tasks if t.cluster
    ]
    assert len(found) == 12
