"""Parts of a run: together the whole, equally costly, and the same when the data grows."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.errors import SuiteError
from pytest_trustllm.suites.shards import Shard, expected_tokens, members, parse
from pytest_trustllm.types import Generation, Sample

Key = tuple[str, str, str]


def made(costs: list[float], seed: str = "") -> dict[Key, float]:
    return {(hashlib.sha256(f"{seed}{i}".encode()).hexdigest(), "d/t", f"{i:04d}"): c for i, c in enumerate(costs)}


@given(st.lists(st.floats(1, 2000), min_size=1, max_size=60), st.integers(1, 7))
def test_every_sample_is_in_one_shard(costs: list[float], count: int) -> None:
    whole = made(costs)
    parts = [members(whole, Shard(i, count)) for i in range(1, count + 1)]
    assert sum(map(len, parts)) == len(whole)
    assert set().union(*parts) == set(whole)


@given(st.lists(st.floats(1, 2000), min_size=1, max_size=60), st.integers(1, 7))
def test_shards_cost_the_same_but_for_one_sample(costs: list[float], count: int) -> None:
    whole = made(costs)
    spent = [sum(whole[k] for k in members(whole, Shard(i, count))) for i in range(1, count + 1)]
    assert max(spent) - min(spent) <= 2 * max(costs) + 1e-6


@pytest.mark.parametrize("costs", [(1.0, 3.0), (3.0, 1.0)])
def test_a_costly_sample_belongs_where_most_of_it_is(costs: tuple[float, float]) -> None:
    whole = {(name, "d/t", name): cost for name, cost in zip("ab", costs, strict=True)}
    assert [members(whole, Shard(i, 2)) for i in (1, 2)] == [{("a", "d/t", "a")}, {("b", "d/t", "b")}]


def test_an_added_sample_moves_hardly_any_other() -> None:
    before = made([1.0 + i % 7 for i in range(2000)])
    after = {**before, **made([5.0], "new")}
    place = {k: i for i in range(1, 5) for k in members(before, Shard(i, 4))}
    again = {k: i for i in range(1, 5) for k in members(after, Shard(i, 4))}
    assert sum(place[k] != again[k] for k in before) <= 6


def test_the_order_in_which_samples_come_does_not_matter() -> None:
    whole = made([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    assert members(whole, Shard(2, 3)) == members(dict(reversed(whole.items())), Shard(2, 3))


def test_cost_grows_with_prompts_and_answers() -> None:
    def sample(*prompts: str) -> Sample:
        asked = tuple((("user", p),) for p in prompts)
        return Sample("d/t", "0000", ({},) * len(asked), asked, (("f", 0),) * len(asked), {}, "f")

    short = Generation(max_new_tokens=4)
    assert expected_tokens(sample("x" * 400), short) == 101
    assert expected_tokens(sample("x" * 400, "y" * 40), short) == 112
    assert expected_tokens(sample("x"), Generation(max_new_tokens=512)) > expected_tokens(sample("x"), short)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(SuiteError, match=r"^--trust-shard: expected I/N with I from 1 to N, such as 2/4, or auto, "):
        parse(text)


def test_a_shard() -> None:
    assert parse("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
