"""The end of a run, in the one process where every report arrives."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm import masking
from pytest_trustllm import results as resulting
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.gates import Gate, GateResult
from pytest_trustllm.measured import Measured
from pytest_trustllm.plugin.collection import gate_id, sample_ids
from pytest_trustllm.plugin.state import Gathered, RunState, selection_of
from pytest_trustllm.records import Selection
from pytest_trustllm.saved import samples_of
from pytest_trustllm.transcript import sample_lines

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from pytest_trustllm.report import html

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
        self._measured: dict[str, Measured] = {}
        self._stopped = False
        self._notes: list[str] = []
        self._lost = "no test process reported what it collected"

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
            empty: dict[str, Any] = {"plan": None, "models": {}, "usage": {}, "errors": {}, "data": {}, "budget": None}
            try:
                self._finish = empty if self.state.client is None else self.state.client.call("finish")
            except TrustLLMError as e:
                how = self.state.host.end() if self.state.host is not None else ""
                self._lost = f"{e} ({how})" if how else str(e)
                self._notes.append(self._lost)
                self._finish = empty
        return self._finish

    def selection(self, model: str) -> Selection:
        """Return what was selected to run."""
        plan = self.finish()["plan"]
        return Selection({}, {}) if plan is None else selection_of(plan, model)

    def measured(self, model: str) -> Measured:
        """Return the numbers of a model; computed once, when the first gate asks."""
        if model not in self._measured:
            self._measured[model] = Measured(
                [task for suite in self.state.suites for task in suite.tasks],
                self.gathered.parsed(model),
                self.selection(model),
                seed=self.state.settings.seed,
                baseline=self.state.baselines.get(model),
                stopped=self._stopped,
            )
        return self._measured[model]

    def gates(self) -> list[tuple[Gate, str, str]]:
        """Return gate, model and node id of the gates that were selected; all if no test process came back."""
        plan, found = self.finish()["plan"], []
        for model in self.state.models:
            for gate in self.state.chosen_gates(model):
                nodeid = gate_id(self.state, gate, model)
                if nodeid in plan["gates"] if plan is not None else self.state.gates_asked:
                    found.append((gate, model, nodeid))
        return found

    def judge(self, gate: Gate, model: str, nodeid: str) -> GateResult:
        """Judge one gate and remember the verdict."""
        cache = getattr(self.state.config, "cache", None)  # absent with -p no:cacheprovider
        lastfailed = self.state.config.getoption("lf", False)
        failed: Mapping[str, bool] = cache.get("cache/lastfailed", {}) if lastfailed and cache is not None else {}
        if self.finish()["plan"] is None:
            result = GateResult(gate, "no_data", None, f"no data: {self._lost}")
        else:
            result = self.measured(model).judge(gate, failed_before=nodeid in failed)
        self.gathered.gates.setdefault(model, {})[nodeid] = result
        return result

    def shown(self, text: str) -> str:
        """Return a text as terminal, JUnit file and CI logs may show it."""
        return text if self.state.settings.show_content else masking.masked(text)

    def properties(self, result: GateResult) -> list[tuple[str, object]]:
        """Return what the JUnit file says about a gate; it takes it from the last report."""
        gate = result.gate
        found: dict[str, object] = {
            "trust.gate.metric": gate.metric_id or f"{gate.dimension}/score",
            "trust.gate.outcome": result.outcome,
            "trust.gate.value": _number(result.value),
            "trust.gate.bound": f"{gate.kind} {gate.bound!r}",
            "trust.gate.scoring": gate.scoring,
        }
        if result.interval is not None:
            found["trust.gate.ci"] = f"{_number(result.interval.low)} {_number(result.interval.high)}"
        if result.warned:
            found["trust_warned"] = self.shown(one_line(result.reason, 1000))
        return list(found.items())

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Write the files before anybody prints, so that a failure to write changes the exit status."""
        if self.state.client is not None and self.finish()["plan"] is not None:
            try:
                self._judge_rest(session)
                self._write()
                self._tell_ci()
            except TrustLLMError as e:
                self._notes.append(str(e))
        if self._notes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def _judge_rest(self, session: pytest.Session) -> None:
        """Judge the gates that a run which stopped early (``-x``, Ctrl-C) did not come to: they saw a part of it."""
        ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if session.shouldstop or session.shouldfail or session.exitstatus not in ended:
            self._stopped = True
            self._measured.clear()
            for gate, model, nodeid in self.gates():
                self.judge(gate, model, nodeid)

    def _write(self) -> None:
        for model in self.state.models:
            self.documents[model] = self._document(model)
            self.state.config.hook.pytest_trustllm_results(results=self.documents[model], config=self.state.config)
            if self.state.settings.results is not None:
                path = self.state.file_of(self.state.settings.results, model)
                beside = path.with_name(self.documents[model]["samples"])
                resulting.write_whole(beside, self._samples(model), "--trust-results")
                resulting.write_document(path, self.documents[model])
            if self.state.settings.report is not None:
                from pytest_trustllm.report import html

                path = self.state.file_of(self.state.settings.report, model)
                run = html.Run(self.documents[model], map(json.loads, self._samples(model)))
                page = html.render(*self._baseline(model), run, content=self.state.settings.show_content)
                resulting.write_whole(path, [page], "--trust-report")
        if self.state.several and self.state.settings.report is not None:
            self._write_comparison(self.state.settings.report)

    def _write_comparison(self, path: Path) -> None:
        """Write all models of the run side by side; each has a report of its own too."""
        from pytest_trustllm.report import html

        runs = [html.Run(self.documents[m], map(json.loads, self._samples(m))) for m in self.state.models]
        page = html.render(*runs, content=self.state.settings.show_content)
        resulting.write_whole(path, [page], "--trust-report")

    def _baseline(self, model: str) -> list[html.Run]:
        """Return the earlier run that the report lays this one beside."""
        from pytest_trustllm.report import html

        baseline = self.state.baselines.get(model)
        if baseline is None:
            return []
        path = self.state.settings.baseline
        assert path is not None  # noqa: S101 - it was read
        return [html.Run(baseline.results, samples_of(baseline.results, self.state.file_of(path, model)))]

    def _samples(self, model: str) -> Iterator[str]:
        assert self.state.host is not None  # noqa: S101 - there was a plan
        records = self.gathered.records.get(model, {})
        ordered = {key: records[key] for key in self.finish()["plan"]["keys"] if key in records}
        return sample_lines(ordered, self.state.host.transcript)

    def _document(self, model: str) -> dict[str, Any]:
        measured, run = self.measured(model), self._run(model)
        results = self.state.settings.results
        samples = self.state.file_of(results, model).stem + ".samples.jsonl" if results is not None else None
        gates = self.gathered.gates.get(model, {}).values()
        return measured.document(run, gates, self._usage(model), samples)

    def _run(self, model: str) -> dict[str, Any]:
        info, settings, selection = self.finish(), self.state.settings, self.selection(model)
        measured = self.measured(model)
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
            "epochs": settings.epochs,
            "judge_votes": settings.judge_votes,
            "judge_checks": [dict(check) for check in self.state.checks],
            "plugin_version": importlib.metadata.version("pytest-trustllm"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "packages": _versions(),
            "data": {"source": self.state.data.name, "files": info["data"]},
            "roles": {role: {"name": s.name, **info["models"].get(role, {})} for role, s in self.state.roles.items()},
            "generation": {t.id: _generation(t) for t in tasks if t.reads is None},
            "task_versions": {t.id: t.version for t in tasks},
            **({} if info["budget"] is None else {"budget": {**info["budget"], "cut": self._cut(model)}}),
            **self._shard(),
            "nodes": sample_ids(self.state, tasks, model),
            "licences": {s.dimension: s.source["licences"] for s in self.state.suites if s.source.get("licences")},
            "selection": "partial" if left_out or measured.ran.partial(selection.planned) else "full",
            "stopped": self._stopped,
            "suites": list(settings.suites),
            "builtin_suites": settings.builtin_suites,
            "command": [one_line(a) for a in self.state.config.invocation_params.args],
            "extra": {},
        }

    def _shard(self) -> dict[str, Any]:
        shard = self.state.settings.shard
        if shard is None:
            return {}
        return {"shard": {"index": shard.index, "count": shard.count, "of": self.state.whole()}}

    def _cut(self, model: str) -> int:
        """Return how many selected samples the budget left for another run."""
        return self.measured(model).cut

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
            "near_ties": mine.get("near_ties", 0),
            "seconds": mine.get("seconds", 0.0),
            "cost_usd": mine.get("cost_usd"),
            "roles": roles,
        }

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print what a person wants to know first."""
        from pytest_trustllm.report import github, text

        settings = self.state.settings
        for model, results in self.documents.items():
            terminalreporter.section(f"trust: {one_line(model, 60)}")
            for line in text.summary(self._shown(results), self._reasons(model)):
                terminalreporter.write_line(github.harmless(line) if github.is_here() else line)
            for flag, path in (("results", settings.results), ("report", settings.report)):
                if path is not None and self.state.file_of(path, model).exists():
                    terminalreporter.write_line(f"{flag}: {self.state.file_of(path, model)}")
            if github.is_here():
                for line in github.commands(self._shown(results), self.state.config.rootpath):
                    terminalreporter.write_line(line)
        if self.state.several and settings.report is not None and settings.report.exists():
            terminalreporter.write_line(f"report of all models: {settings.report}")
        for note in self._notes:
            terminalreporter.write_line(f"ERROR: {note}", red=True)

    def _shown(self, results: Mapping[str, Any]) -> Mapping[str, Any]:
        return results if self.state.settings.show_content else masking.concealed(results)

    def _tell_ci(self) -> None:
        """Leave trust scores in the JUnit file, and a summary of the step where GitHub shows one."""
        from pytest_trustllm.report import github

        for model, results in self.documents.items():
            self._junit(model, results)
            github.write_summary(self._shown(results), self._reasons(model))

    def _junit(self, model: str, results: Mapping[str, Any]) -> None:
        """Add properties to the JUnit file's suite; its writer has no public name, but the method is documented."""
        for plugin in self.state.config.pluginmanager.get_plugins():
            add = getattr(plugin, "add_global_property", None)
            if add is not None:
                prefix = f"trust.{model}" if self.state.several else "trust"
                add(f"{prefix}.model", one_line(model))
                for name, score in results["scores"].items():
                    add(f"{prefix}.score.{name}", _number(score["value"]))
                    if score.get("ci"):
                        add(f"{prefix}.score.{name}.ci", " ".join(map(_number, score["ci"])))

    def _reasons(self, model: str) -> list[tuple[str, str, int]]:
        """Return (task, why, how many) of the unscored samples."""
        return [(task, self.shown(reason), count) for task, reason, count in self.measured(model).reasons]


GATHERER: pytest.StashKey[Gatherer] = pytest.StashKey()


def _number(value: float | None) -> str:
    return "none" if value is None else repr(value)


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
            outcome, longrepr = (
                _shown(result, gatherer.shown(result.reason), location) if when == "call" else ("passed", None)
            )
            report = pytest.TestReport(
                nodeid,
                location,
                {nodeid: 1, "trust": 1},
                outcome,  # type: ignore[arg-type]
                longrepr,
                when,
                user_properties=gatherer.properties(result),
                start=start,
                stop=time.time(),
            )
            report.trust_warned = result.warned  # type: ignore[attr-defined]
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _shown(result: GateResult, reason: str, location: tuple[str, Any, str]) -> tuple[str, Any]:
    if result.outcome == "skipped":
        return "skipped", (location[0], 0, f"Skipped: {reason}")
    return ("failed", reason) if result.failing else ("passed", None)
