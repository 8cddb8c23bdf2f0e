"""The order in which samples are asked where gates may be decided early."""

from __future__ import annotations

import random

import pytest

from pytest_trustllm.engine.asking import interleaved, shuffled_units
from pytest_trustllm.types import Sample


def samples(count: int, *, task: str = "d/t", clusters: int = 0) -> list[Sample]:
    """Return samples of one task, in so many clusters; without any, each stands alone."""
    found = []
    for i in range(count):
        cluster = str(i % clusters) if clusters else None
        found.append(Sample(task, f"{i:04d}", ({},), ((("user", "x"),),), (("f", i),), {}, f"{i}", cluster))
    return found


def test_the_order_depends_on_the_seed_and_not_on_the_order_of_the_tests() -> None:
    planned = samples(50)
    first = shuffled_units(planned, 1)
    random.Random(3).shuffle(planned)
    assert shuffled_units(planned, 1) == first
    assert shuffled_units(planned, 2) != first
    assert first != sorted(first, key=lambda unit: unit[0].id)


def test_a_cluster_is_asked_as_a_whole() -> None:
    units = shuffled_units(samples(50, clusters=7), 1)
    assert len(units) == 7
    assert sum(len(unit) for unit in units) == 50
    for unit in units:
        assert len({sample.cluster for sample in unit}) == 1


def test_a_cluster_named_like_a_sample_is_another_one() -> None:
    alone = samples(1)[0]
    of_cluster = Sample("d/t", "0001", ({},), ((("user", "x"),),), (("f", 1),), {}, "1", cluster="0000")
    assert len(shuffled_units([alone, of_cluster], 1)) == 2


@pytest.mark.parametrize("sizes", [(100, 10), (7, 3)])
def test_tasks_are_equally_far_at_any_time(sizes: tuple[int, int]) -> None:
    tasks = {}
    for name, size in zip(("d/a", "d/b"), sizes, strict=True):
        tasks[name] = shuffled_units(samples(size, task=name), 1)
    order = interleaved(tasks)
    assert len(order) == sum(sizes)
    done = dict.fromkeys(tasks, 0)
    for task, unit in order:
        assert unit == tasks[task][done[task]]  # each task in its own order
        done[task] += 1
        shares = [done[name] / len(units) for name, units in tasks.items()]
        assert max(shares) - min(shares) <= 1 / min(sizes)
