"""Which samples of two runs are the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_trustllm.baseline import changes, pair


def records(prints: list[str], task: str = "safety/echo", bad: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    return [
        {"task": task, "id": f"{i:04d}", "fingerprint": p, "status": "missed" if i in bad else "passed"}
        for i, p in enumerate(prints)
    ]


@given(st.lists(st.sampled_from("abcdef"), max_size=8), st.lists(st.sampled_from("abcdef"), max_size=8))
def test_every_sample_is_counted_once(before: list[str], now: list[str]) -> None:
    found = pair(records(before), records(now))
    if not before and not now:
        assert found == {}
        return
    echo = found["safety/echo"]
    assert len(echo.before) == len(echo.now) == sum(min(before.count(p), now.count(p)) for p in set(before))
    assert all(b["fingerprint"] == n["fingerprint"] for b, n in zip(echo.before, echo.now, strict=True))
    assert len(echo.now) + len(echo.changed) + len(echo.added) == len(now)
    assert len(echo.before) + len(echo.changed) + len(echo.removed) == len(before)


@given(st.lists(st.text("abc", min_size=1), unique=True, max_size=8), st.integers(0, 8))
def test_a_row_that_is_inserted_moves_no_partner(prints: list[str], at: int) -> None:
    now = [*prints[:at], "new", *prints[at:]]
    echo = pair(records(prints), records(now))["safety/echo"]
    assert [r["fingerprint"] for r in echo.now] == prints
    assert (len(echo.added), echo.changed, echo.removed) == (1, (), ())


def test_tasks_are_apart() -> None:
    found = pair(records(["a"]), records(["a"], "safety/other"))
    assert {t: (len(p.now), p.added, p.removed) for t, p in found.items()} == {
        "safety/echo": (0, (), ("0000",)),
        "safety/other": (0, ("0000",), ()),
    }


def test_flips_are_samples_whose_target_was_met_in_one_run_alone() -> None:
    before, now = records(list("abcd"), bad=frozenset({0, 1})), records(list("abcd"), bad=frozenset({1, 2}))
    now[3]["status"] = "unscored"
    assert pair(before, now)["safety/echo"].flips() == (["0002"], ["0000"])


def test_changes_name_the_first_and_are_safe_to_print() -> None:
    found = pair(records([]), records(["\x1b[31m", *"abcd"]))
    assert changes(found.values()) == "5 added: echo[0000], echo[0001], echo[0002], +2"
    hostile = records(["a"])
    hostile[0]["id"] = "\x1b[31m\n"
    assert changes(pair([], hostile).values()) == "1 added: echo[\\x1b[31m\\n]"
