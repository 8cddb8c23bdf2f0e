"""Gates as tests of the xdist controller: the reports that pytest would make if it ran them there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.gates.verdict import GateResult
from pytest_trustllm.plugin.node_ids import line_of

if TYPE_CHECKING:
    from pytest_trustllm.plugin.gatherer import Gatherer, PlannedGate


def report_gates(session: pytest.Session, gatherer: Gatherer, gates: Sequence[PlannedGate]) -> None:
    """Show gates as tests in the xdist controller, which has no items of its own.

    Args:
        session: The controller's session.
        gatherer: Judges the gates.
        gates: Those that the workers selected.
    """
    session.testscollected += len(gates)  # keeps the progress percentage right
    hook = session.config.hook
    for planned in gates:
        start = time.time()
        file, _, _ = planned.nodeid.partition("::")
        _, _, name = planned.nodeid.rpartition("::")
        location = (file, line_of(planned.gate), f"gate {name}")
        hook.pytest_runtest_logstart(nodeid=planned.nodeid, location=location)
        result = gatherer.judge(planned)
        # All three phases: pytest-html shows nothing until teardown, and the JUnit writer takes properties from it.
        for when in ("setup", "call", "teardown"):
            outcome, longrepr = "passed", None
            if when == "call":
                outcome, longrepr = _call_phase(result, gatherer.shown(result.reason), location)
            report = pytest.TestReport(
                planned.nodeid,
                location,
                {planned.nodeid: 1, "trust": 1},
                outcome,  # type: ignore[arg-type]
                longrepr,
                when,
                user_properties=gatherer.properties(result),
                start=start,
                stop=time.time(),
            )
            report.trust_warned = result.warned  # type: ignore[attr-defined]
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=planned.nodeid, location=location)


def _call_phase(result: GateResult, reason: str, location: tuple[str, int, str]) -> tuple[str, Any]:
    """Return the outcome of a gate's test, and what pytest shows about it."""
    if result.outcome == "skipped":
        file, line, _ = location
        return "skipped", (file, line + 1, f"Skipped: {reason}")
    if result.failing:
        return "failed", reason
    return "passed", None
