"""Which samples of two runs are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.registry import Registry
from pytest_trustllm.report.page import other_runs as report
from pytest_trustllm.report.page.sample_data import pack
from pytest_trustllm.results.baseline import flips, sample_changes
from pytest_trustllm.results.comparison import compare
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.suites.metric_specs import MetricSpec, Reading
from pytest_trustllm.suites.pairing import pair_by_task
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Generation, Selection

TASK = "safety/echo"
prints = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=8)


def records(prints: list[str], task: str = TASK, bad: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    return [
        {
            "task": task, "id": f"{i:04d}", "fingerprint": p, "status": "missed" if i in bad else "passed",
            "value": float(i not in bad), "answer": None, "reason": None,
            "group": {}, "observed": {}, "parity": "same", "also": {},
        }
        for i, p in enumerate(prints)
    ]  # fmt: skip


def measured(found: list[dict[str, Any]]) -> RunNumbers:
    reading = Reading(Registry().metrics.get("mean")(), "pooled", {})
    spec = MetricSpec("m", reading, reading, {})
    task = Task("s", "safety", "echo", 1, "", DataSpec(), None, None, Generation(), None, "x", (spec,), {})
    counts = {TASK: len(found)}
    return RunNumbers([task], observed_by_task(found), Selection(counts, counts))


@given(prints, prints)
def test_every_sample_is_counted_once(before: list[str], now: list[str]) -> None:
    found = pair_by_task(records(before), records(now))
    if not before and not now:
        assert found == {}
        return
    echo = found[TASK]
    assert len(echo.shared) == sum(min(before.count(p), now.count(p)) for p in set(before) - {""})
    assert all(b["fingerprint"] == n["fingerprint"] != "" for b, n in echo.shared)
    assert len(echo.shared) + len(echo.changed) + len(echo.added) == len(now)
    assert len(echo.shared) + len(echo.changed) + len(echo.removed) == len(before)


@settings(deadline=None)  # the first comparison imports numpy
@given(prints, prints)
def test_baseline_comparison_and_report_pair_alike(before: list[str], now: list[str]) -> None:
    old, new = records(before), records(now)
    echo = pair_by_task(old, new).get(TASK)
    shared = [] if echo is None else [(b["id"], n["id"]) for b, n in echo.shared]
    packed = pack(old, []), pack(new, [])
    page = report.of_run("old", {"metrics": {}, "scores": {}}, *packed)
    assert {(row["id"], id_) for (_, id_), row in page.rows.items()} == set(shared)
    compared = compare(measured(old), measured(new), f"{TASK}.m")
    if compared is None or echo is None:
        assert not shared
        return
    assert compared.shared == len(shared)
    assert (compared.changed, compared.added, compared.removed) == (echo.changed, echo.added, echo.removed)


def test_rows_without_a_fingerprint_have_no_partner() -> None:
    echo = pair_by_task(records(["a", ""]), records(["a", "b", ""]))[TASK]
    assert [n["id"] for _, n in echo.shared] == ["0000"]
    assert (echo.changed, echo.added, echo.removed) == (("0001",), ("0002",), ())


def test_the_same_row_without_a_fingerprint_in_both_runs_is_no_shared_sample() -> None:
    echo = pair_by_task(records(["a", ""]), records(["a", ""]))[TASK]
    assert (len(echo.shared), echo.changed, echo.added, echo.removed) == (1, ("0001",), (), ())


@given(st.lists(st.text("abc", min_size=1), unique=True, max_size=8), st.integers(0, 8))
def test_a_row_that_is_inserted_moves_no_partner(prints: list[str], at: int) -> None:
    now = [*prints[:at], "new", *prints[at:]]
    echo = pair_by_task(records(prints), records(now))[TASK]
    assert [n["fingerprint"] for _, n in echo.shared] == prints
    assert (len(echo.added), echo.changed, echo.removed) == (1, (), ())


@pytest.mark.parametrize("turned", [False, True])
def test_the_order_of_the_lines_does_not_matter(turned: bool) -> None:
    old, new = records(["a", "a", "b"], bad=frozenset({0})), records(["b", "a", "a"])
    echo = pair_by_task(old[::-1] if turned else old, new[::-1] if turned else new)[TASK]
    assert [(b["id"], n["id"]) for b, n in echo.shared] == [("0002", "0000"), ("0000", "0001"), ("0001", "0002")]


def test_tasks_are_apart() -> None:
    found = pair_by_task(records(["a"]), records(["a"], "safety/other"))
    assert {t: (len(p.shared), p.added, p.removed) for t, p in found.items()} == {
        "safety/echo": (0, (), ("0000",)),
        "safety/other": (0, ("0000",), ()),
    }


def test_flips_are_samples_whose_target_was_met_in_one_run_alone() -> None:
    before, now = records(list("abcd"), bad=frozenset({0, 1})), records(list("abcd"), bad=frozenset({1, 2}))
    now[3]["status"] = "unscored"
    assert flips(pair_by_task(before, now)[TASK]) == (["0002"], ["0000"])


def test_changes_name_the_first_and_are_safe_to_print() -> None:
    found = pair_by_task(records([]), records(["\x1b[31m", *"abcd"]))
    assert sample_changes(found) == "5 added: echo[0000], echo[0001], echo[0002], +2"
    hostile = records(["a"])
    hostile[0]["id"] = "\x1b[31m\n"
    assert sample_changes(pair_by_task([], hostile)) == "1 added: echo[\\x1b[31m\\n]"
