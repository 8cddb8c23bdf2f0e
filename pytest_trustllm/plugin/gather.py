"""The end of a run, in the one process where every report arrives."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm import results as resulting
from pytest_trustllm.errors import HostError, TrustLLMError, one_line
from pytest_trustllm.gates import Gate, GateResult, judge
from pytest_trustllm.plugin.collection import TrustFailure
from pytest_trustllm.plugin.state import Gathered, RunState, selection_of
from pytest_trustllm.records import MetricValue, Selection, TrustScore

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_PACKAGES = ("pytest", "pytest-xdist", "transformers", "torch", "openai", "jinja2", "scipy")


class Gatherer:
    """Collects records, judges gates, writes results and report, and prints the summary.

    Args:
        state: The run.
    """

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.gathered = Gathered()
        self.documents: dict[str, dict[str, Any]] = {}
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._finish: dict[str, Any] | None = None
        self._numbers: dict[str, tuple[dict[str, MetricValue], dict[str, TrustScore]]] = {}
        self._notes: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the record that a test's call report carries."""
        trust, outcome = getattr(report, "trust", None), str(report.outcome)
        if trust is not None and report.when == "call" and outcome != "rerun":  # pytest-rerunfailures' own outcome
            self.gathered.take(trust["key"], trust["record"])
            hook = self.state.config.hook
            if hook.pytest_trustllm_sample_scored.get_hookimpls():
                record = {"model": trust["key"].rsplit("|", 2)[0], **json.loads(trust["record"])}
                hook.pytest_trustllm_sample_scored(record=record, config=self.state.config)

    def finish(self) -> dict[str, Any]:
        """Return what the host knows at the end: the plan, models, usage. Asked once, after the last sample."""
        if self._finish is None:
            empty: dict[str, Any] = {"plan": None, "models": {}, "usage": {}, "errors": {}, "data": {}}
            try:
                self._finish = empty if self.state.client is None else self.state.client.call("finish")
            except HostError as e:
                self._notes.append(str(e))
                self._finish = empty
        return self._finish

    def selection(self, model: str) -> Selection:
        """Return what was selected to run."""
        plan = self.finish()["plan"]
        return Selection({}, {}) if plan is None else selection_of(plan, model)

    def numbers(self, model: str) -> tuple[dict[str, MetricValue], dict[str, TrustScore]]:
        """Return metrics and trust scores of a model; computed once, when the first gate asks."""
        if model not in self._numbers:
            tasks = resulting.tasks_of(self.state.suites)
            metrics = resulting.metrics_of(tasks, self.gathered.parsed(model).values(), self.selection(model))
            self._numbers[model] = metrics, resulting.scores_of(tasks, metrics)
        return self._numbers[model]

    def judge(self, gate: Gate, model: str, nodeid: str) -> GateResult:
        """Judge one gate and remember the verdict."""
        cache = getattr(self.state.config, "cache", None)  # absent with -p no:cacheprovider
        lastfailed = self.state.config.getoption("lf", False)
        failed: Mapping[str, bool] = cache.get("cache/lastfailed", {}) if lastfailed and cache is not None else {}
        if self.finish()["plan"] is None:
            result = GateResult(gate, "no_data", None, "no data: no test process reported what it collected")
        else:
            metrics, scores = self.numbers(model)
            result = judge(gate, metrics, scores, self.selection(model), failed_before=nodeid in failed)
        self.gathered.gates.append((model, result))
        return result

    def run_gate(self, gate: Gate, model: str, nodeid: str) -> None:
        """Judge one gate as a test: return, skip or raise."""
        result = self.judge(gate, model, nodeid)
        if result.outcome == "skipped":
            pytest.skip(result.reason)
        if result.outcome != "passed":
            raise TrustFailure(result.reason)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Write the files before anybody prints, so that a failure to write changes the exit status."""
        if self.state.client is not None and self.finish()["plan"] is not None:
            try:
                self._write()
            except TrustLLMError as e:
                self._notes.append(str(e))
        if self._notes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def _write(self) -> None:
        for model in self.state.models:
            self.documents[model] = self._document(model)
            self.state.config.hook.pytest_trustllm_results(results=self.documents[model], config=self.state.config)
            if self.state.settings.results is not None:
                path = self._path(self.state.settings.results, model)
                lines = (json.dumps(s, ensure_ascii=True) + "\n" for s in self._samples(model))
                resulting.write_whole(path.with_name(self.documents[model]["samples"]), lines, "--trust-results")
                resulting.write_document(path, self.documents[model])
            if self.state.settings.report is not None:
                from pytest_trustllm.report import html

                path = self._path(self.state.settings.report, model)
                page = html.render(self.documents[model], self._samples(model))
                resulting.write_whole(path, [page], "--trust-report")

    def _path(self, path: Path, model: str) -> Path:
        if not self.state.several:
            return path
        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in model)
        return path.with_name(f"{path.stem}.{safe}{path.suffix}")

    def _samples(self, model: str) -> Iterator[dict[str, Any]]:
        assert self.state.host is not None  # noqa: S101 - there was a plan
        records = self.gathered.parsed(model)
        ordered = {key: records[key] for key in self.finish()["plan"]["keys"] if key in records}
        with self.state.host.transcript.open(encoding="ascii") as lines:
            yield from resulting.sample_lines(ordered, map(json.loads, lines))

    def _document(self, model: str) -> dict[str, Any]:
        metrics, scores = self.numbers(model)
        gates = [
            {
                "id": result.gate.id,
                "outcome": result.outcome,
                "value": result.value,
                "bound": result.gate.bound,
                "kind": result.gate.kind,
                "metric": result.gate.metric_id or f"{result.gate.dimension}/score",
                "scoring": result.gate.scoring,
                "reason": result.reason,
            }
            for name, result in self.gathered.gates
            if name == model
        ]
        results = self.state.settings.results
        samples = self._path(results, model).stem + ".samples.jsonl" if results is not None else None
        return resulting.document(self._run(model), metrics, scores, gates, self._usage(model), samples)

    def _run(self, model: str) -> dict[str, Any]:
        info, settings, selection = self.finish(), self.state.settings, self.selection(model)
        tasks = [t for t in resulting.tasks_of(self.state.suites) if t.asked in selection.planned]
        left_out = any(
            t.reads is None and t.id not in selection.planned and self.state.data.file(t) is not None
            for t in resulting.tasks_of(self.state.suites)
        )
        return {
            "id": uuid.uuid4().hex,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 3),
            "model": {"name": model, **(info["models"].get("fixture") or info["models"].get(model) or {})},
            "seed": settings.seed,
            "epochs": 1,
            "plugin_version": importlib.metadata.version("pytest-trustllm"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": _versions(),
            "data": {"source": self.state.data.name, "files": info["data"]},
            "roles": {role: {"name": s.name, **info["models"].get(role, {})} for role, s in self.state.roles.items()},
            "generation": {t.id: _generation(t) for t in tasks if t.reads is None},
            "task_versions": {t.id: t.version for t in tasks},
            "selection": "partial" if left_out or selection.partial(selection.planned) else "full",
            "command": [one_line(a) for a in self.state.config.invocation_params.args],
            "extra": {},
        }

    def _usage(self, model: str) -> dict[str, Any]:
        usage = self.finish()["usage"]
        mine = usage.get("fixture") or usage.get(model) or {}
        roles = {role: usage[role] for role in self.state.roles if role in usage}
        return {
            "requests": mine.get("requests", 0),
            "cached": mine.get("cached", 0),
            "failed": mine.get("failed", 0),
            "input_tokens": mine.get("input_tokens", 0),
            "output_tokens": mine.get("output_tokens", 0),
            "seconds": mine.get("seconds", 0.0),
            "cost_usd": None,
            "roles": roles,
        }

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print what a person wants to know first."""
        from pytest_trustllm.report import text

        settings = self.state.settings
        for model, results in self.documents.items():
            terminalreporter.section(f"trust: {one_line(model, 60)}")
            for line in text.summary(results, self._reasons(model)):
                terminalreporter.write_line(line)
            for flag, path in (("results", settings.results), ("report", settings.report)):
                if path is not None and self._path(path, model).exists():
                    terminalreporter.write_line(f"{flag}: {self._path(path, model)}")
        for note in self._notes:
            terminalreporter.write_line(f"ERROR: {note}", red=True)

    def _reasons(self, model: str) -> list[tuple[str, str, int]]:
        """Return (task, why, how many) of the unscored samples."""
        found: dict[tuple[str, str], int] = {}
        for record in self.gathered.parsed(model).values():
            for task, score in ((record["task"], record), *record["also"].items()):
                if score["value"] is None and score.get("applies", True):
                    found[task, score["reason"]] = found.get((task, score["reason"]), 0) + 1
        return [(task, reason, count) for (task, reason), count in found.items()]


GATHERER: pytest.StashKey[Gatherer] = pytest.StashKey()


def _generation(task: Any) -> dict[str, Any]:
    g = task.generation
    return {"temperature": g.temperature, "max_new_tokens": g.max_new_tokens, "stop": list(g.stop)}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def replay(session: pytest.Session, gatherer: Gatherer, chosen: Sequence[tuple[Gate, str, str]]) -> None:
    """Show gates as tests in the xdist controller, which has no items of its own.

    Args:
        session: The controller's session.
        gatherer: Judges.
        chosen: Gate, model and node id of the gates that the workers selected.
    """
    session.testscollected += len(chosen)
    hook = session.config.hook
    for gate, model, nodeid in chosen:
        start = time.time()
        location = (nodeid.split("::", maxsplit=1)[0], None, f"gate {nodeid.rsplit('::', maxsplit=1)[-1]}")
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        result = gatherer.judge(gate, model, nodeid)
        for when in ("setup", "call", "teardown"):
            outcome, longrepr = _shown(result, location) if when == "call" else ("passed", None)
            report = pytest.TestReport(
                nodeid,
                location,
                {nodeid: 1, "trust": 1},
                outcome,  # type: ignore[arg-type]
                longrepr,
                when,
                start=start,
                stop=time.time(),
            )
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _shown(result: GateResult, location: tuple[str, Any, str]) -> tuple[str, Any]:
    if result.outcome == "passed":
        return "passed", None
    if result.outcome == "skipped":
        return "skipped", (location[0], 0, f"Skipped: {result.reason}")
    return "failed", result.reason
