"""The end of a run, in the one process where every report arrives."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_trustllm.config.files import write_whole
from pytest_trustllm.engine.client import HostClient
from pytest_trustllm.engine.keys import key_of, split_key
from pytest_trustllm.engine.messages import FinishReply, NeedReply, StopReport
from pytest_trustllm.engine.transcript import sample_lines
from pytest_trustllm.errors import HostError, TrustLLMError, describe_exception, one_line
from pytest_trustllm.formats import DataEntry, DecisionEntry, Results, RunEntry, SampleLine
from pytest_trustllm.gates.verdict import Gate, GateResult
from pytest_trustllm.plugin.gathered import Gathered, selection_of
from pytest_trustllm.plugin.node_ids import gate_id, gate_key
from pytest_trustllm.plugin.run_entry import FinishedRun, base_entry, role_entries, run_entry, stop_entry, usage_entry
from pytest_trustllm.plugin.run_files import base_beside, samples_beside
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.report import masking
from pytest_trustllm.results import document as resulting
from pytest_trustllm.results import history
from pytest_trustllm.results.files import samples_of
from pytest_trustllm.results.judge_check_file import RunFacts
from pytest_trustllm.results.judge_correction import labelled_samples, response_hashes
from pytest_trustllm.results.measurement import Judging, MeasuredRun
from pytest_trustllm.suites.definitions import definitions_of
from pytest_trustllm.types import Selection

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from pytest_trustllm.report.page import html
    from pytest_trustllm.report.plan import ModelPlan

_FETCHED_AT_ONCE = 256
_PATIENCE = 1.5
"""Seconds that the host gets to report, and then to end, once a signal ends the run."""
_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Exit statuses of a run that was not cut short."""
_NOTHING_JUDGED = (
    "no gate was judged: a plugin or a conftest.py deselected gates or some of their samples; to split a run over "
    "jobs, use --trust-shard=I/N and 'pytest-trustllm merge'; to judge a part, write 'on_partial: judge' in the file"
)


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """A gate that the run is to judge.

    Attributes:
        gate: What to judge.
        model: Whose numbers.
        nodeid: Node id of its test as collected: other plugins and hooks may have changed it.
    """

    gate: Gate
    model: str
    nodeid: str

    @property
    def key(self) -> str:
        """Distinguishes it from all others, whatever its test is called."""
        return gate_key(self.gate, self.model)


class Gatherer:
    """Collects records, judges gates, writes results and report, and prints the summary.

    Args:
        state: The run.
    """

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.gathered = Gathered()
        self.documents: dict[str, Results] = {}
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._finish: FinishReply | None = None
        self._measured: dict[str, MeasuredRun] = {}
        self._stopped = False
        self._notes: list[str] = []
        self._written: set[Path] = set()
        self._measured_nothing = False
        self._skipped: dict[str, str] = {}
        self._hook_errors: dict[str, list[str]] = {}
        self._plans: Sequence[ModelPlan] = ()
        self._why_no_plan = "no test process reported what it collected"

    def make_plans(self, keys: Sequence[str], gates: Mapping[str, str]) -> None:
        """Find out what the run would ask, if it asked anything.

        Args:
            keys: Of the selected samples.
            gates: Key -> node id of the selected gates.
        """
        from pytest_trustllm.plugin.run_plan import run_plans

        try:
            self._plans = run_plans(self.state, keys, gates)
        except TrustLLMError as e:
            raise pytest.UsageError(one_line(e, 1000)) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the record that a test's call report carries."""
        outcome = str(report.outcome)
        if report.when == "setup" and outcome == "skipped":
            self._skipped[report.nodeid] = one_line(_why_skipped(report), 200)
        trust = getattr(report, "trust", None)
        # "rerun" is the outcome that pytest-rerunfailures gives to all runs of an item but the last.
        if trust is None or report.when != "call" or outcome == "rerun":
            return
        self.gathered.take(trust["key"], trust["record"])
        hook = self.state.config.hook.pytest_trustllm_sample_scored
        if hook.get_hookimpls():  # else nothing needs the record parsed
            record = {"model": split_key(trust["key"]).model, **json.loads(trust["record"])}
            self._call(hook, record=record)

    def _call(self, hook: Any, **arguments: Any) -> None:
        """Call a hook of the user's: an error in it fails the run and is shown, but costs nothing else."""
        try:
            hook(config=self.state.config, **arguments)
        except pytest.exit.Exception:
            raise
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as e:  # noqa: BLE001 - it may raise anything
            self._hook_errors.setdefault(hook.name, []).append(describe_exception(e))

    def finish(self) -> FinishReply:
        """Return what the host knows at the end: plan, models, usage. Fetched once, after the last sample."""
        if self._finish is None:
            self._finish = self._fetched_finish()
        return self._finish

    def _fetched_finish(self) -> FinishReply:
        nothing: FinishReply = {
            "plan": None,
            "models": {},
            "usage": {},
            "errors": {},
            "data": {},
            "budget": None,
            "stop": None,
            "batches": {},
        }
        if self.state.client is None:
            return nothing
        try:
            reply = self._asked_finish(self.state.client)
        except TrustLLMError as e:
            how_it_ended = self.state.host.end() if self.state.host is not None else ""
            self._why_no_plan = str(e)
            if how_it_ended:
                self._why_no_plan += f" ({how_it_ended})"
            self._notes.append(self._why_no_plan)
            return nothing
        return reply

    def _asked_finish(self, client: HostClient) -> FinishReply:
        reply: FinishReply
        if not self.state.interrupted:
            reply = client.call("finish")
            return reply
        if self.state.host is not None:
            self.state.host.wake()
        try:
            reply = client.call("finish", seconds=_PATIENCE)
        except HostError:  # something in the host computes for ever, such as a scorer
            reply = client.last_report(_PATIENCE)
        return reply

    def selection(self, model: str) -> Selection:
        """Return what was selected to run."""
        plan = self.finish()["plan"]
        if plan is None:
            return Selection({}, {})
        return selection_of(plan, model, extra=model == self.state.base_label)

    def measured(self, model: str) -> MeasuredRun:
        """Return the numbers of a model; computed once, when the first gate needs them."""
        if model not in self._measured:
            self._measured[model] = MeasuredRun(
                self.state.tasks(),
                self.gathered.parsed(model),
                self.selection(model),
                seed=self.state.settings.seed,
                baseline=self.state.baselines.get(model),
                base=self._base(model),
                stopped=self._stopped,
                early=self._stop_report(model)["tasks"],
                decisions=self._decisions(model),
                judging=self._judging(model),
                limit=self.state.settings.limit,
            )
        return self._measured[model]

    def _base(self, model: str) -> MeasuredRun | None:
        """Return the numbers of the bare model behind the app; None without one, or if the run was cut short."""
        label = self.state.base_label
        if label is None or label == model or self._stopped:
            return None
        if label not in self.gathered.records:
            self._fetch_records(label)
        return self.measured(label)

    def _fetch_records(self, label: str) -> None:
        """Wait for the records of samples that no test waited for."""
        plan = self.finish()["plan"]
        client = self.state.client
        if plan is None or client is None:
            return
        keys = [key for key in plan["keys"] if split_key(key).model == label]
        while keys:
            reply: NeedReply = client.call("need", keys=keys[:_FETCHED_AT_ONCE])
            for key, (_, record, _) in reply["records"].items():
                self.gathered.take(key, record)
            keys = [key for key in keys if key not in reply["records"]]
        self._finish = None  # what the host knew of the bare model before its last answer

    def _judging(self, model: str) -> Judging:
        """Return what is known of the mistakes of the judges."""
        checks = self.state.checks
        data: DataEntry = {"source": self.state.data.name, "files": self.finish()["data"]}
        facts = RunFacts(
            role_entries(self.state, self.finish()),
            self.state.tasks(),
            definitions_of(self.state.tasks()),
            data,
            self.state.config.rootpath,
            self.state.settings.judge_votes,
        )
        labelled = {key_of(model, task, id_) for task, id_ in labelled_samples(checks)}
        lines: Iterable[SampleLine] = map(json.loads, self._samples(model, labelled)) if labelled else ()
        return Judging(checks, facts, response_hashes(checks, lines))

    def _stop_report(self, model: str) -> StopReport:
        """Return what stopping early came to; a run that was cut short is judged by what it reached."""
        reports = self.finish()["stop"]
        if reports is None or model not in reports or self._stopped:
            return {"decisions": {}, "whole": {}, "shares": {}, "tasks": {}}
        return reports[model]

    def _decisions(self, model: str) -> dict[str, DecisionEntry]:
        """Return id of the gate -> how it was decided early."""
        by_key = self._stop_report(model)["decisions"]
        gates = {gate_key(gate, model): gate for gate in self.state.chosen_gates(model)}
        return {gates[key].id: decision for key, decision in by_key.items() if key in gates}

    def gates(self) -> list[PlannedGate]:
        """Return the gates that were selected; all if no test process came back."""
        plan = self.finish()["plan"]
        gates = []
        for gate, model in self._chosen():
            if plan is None:
                nodeid = gate_id(self.state, gate, model) if self.state.gates_asked else None
            else:
                nodeid = plan["gates"].get(gate_key(gate, model))
            if nodeid is not None:
                gates.append(PlannedGate(gate, model, nodeid))
        return gates

    def _chosen(self) -> list[tuple[Gate, str]]:
        """Return gate and model of all gates that this run would judge if nobody deselected any."""
        return [(gate, model) for model in self.state.models for gate in self.state.chosen_gates(model)]

    def _deselected(self, model: str) -> list[Gate]:
        """Return the gates about this run's tasks that have no verdict: tags, options, paths or hooks left them out."""
        verdicts = self.gathered.gates.get(model, {})
        return [gate for gate in self.state.gates_of(model) if gate_key(gate, model) not in verdicts]

    def judge(self, planned: PlannedGate) -> GateResult:
        """Judge one gate and remember the verdict."""
        if self.finish()["plan"] is None:
            result = GateResult(planned.gate, "no_data", None, f"no data: {self._why_no_plan}")
        else:
            failed_before = planned.nodeid in self._failed_before()
            result = self.measured(planned.model).judge(planned.gate, failed_before=failed_before)
        self.gathered.gates.setdefault(planned.model, {})[planned.key] = result
        return result

    def _failed_before(self) -> Mapping[str, bool]:
        """Return the tests that ``--lf`` runs again; without the option, none."""
        cache = getattr(self.state.config, "cache", None)  # absent with -p no:cacheprovider
        if cache is None or not self.state.config.getoption("lf", False):
            return {}
        failed: Mapping[str, bool] = cache.get("cache/lastfailed", {})
        return failed

    def shown(self, text: str) -> str:
        """Return a text as terminal, JUnit file and CI logs may show it."""
        if self.state.settings.show_content:
            return text
        return masking.masked(text)

    @cached_property
    def _cases_have_properties(self) -> bool:
        """Whether the JUnit file may hold properties of a test case: its default family, ``xunit2``, has none."""
        config = self.state.config
        return not config.getoption("xmlpath", None) or config.getini("junit_family") != "xunit2"

    def properties(self, result: GateResult) -> list[tuple[str, object]]:
        """Return the properties of a gate's test case; if it may have none, the JUnit file's suite has them."""
        if not self._cases_have_properties:
            return []
        return self._gate_properties(result)

    def _gate_properties(self, result: GateResult) -> list[tuple[str, object]]:
        gate = result.gate
        properties: dict[str, object] = {
            "trust.gate.metric": gate.metric_id or f"{gate.dimension}/score",
            "trust.gate.outcome": result.outcome,
            "trust.gate.value": _number(result.value),
            "trust.gate.bound": f"{gate.kind} {gate.bound!r}",
            "trust.gate.scoring": gate.scoring,
        }
        if result.interval is not None:
            properties["trust.gate.ci"] = f"{_number(result.interval.low)} {_number(result.interval.high)}"
        if result.warned:
            properties["trust_warned"] = self.shown(one_line(result.reason, 1000))
        return list(properties.items())

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Write the files before anything is printed, so that a failure to write them changes the exit status."""
        if self.state.unstarted:
            return (yield)
        self._measured_nothing = self.state.client is not None and self.finish()["plan"] is None
        if self.state.client is not None and not self._measured_nothing:
            with self._noting():
                self._judge_rest(session)
                self._write()
                self._tell_ci()
        if self._judged_nothing(session):
            self._notes.append(_NOTHING_JUDGED)
        for name, errors in self._hook_errors.items():
            note = f"{name} raised {errors[0]}"
            if len(errors) > 1:
                note += f"; {len(errors)} times in all"
            self._notes.append(note)
        if self._notes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.state.interrupted and self.state.host is not None:
            self.state.host.stop(_PATIENCE * 2)  # before xdist waits for workers, which wait for the host
        return (yield)

    @contextlib.contextmanager
    def _noting(self, *files: Path) -> Iterator[None]:
        """Keep an error of the block as a note, once, and the run going; without one, its files were written."""
        try:
            yield
        except TrustLLMError as e:
            if str(e) not in self._notes:
                self._notes.append(str(e))
        else:
            self._written.update(files)

    def _judge_rest(self, session: pytest.Session) -> None:
        """Judge the planned gates that have no verdict yet: no planned gate may vanish.

        A run that stopped early (``-x``, Ctrl-C) did not reach them, or they saw a part of it. Otherwise another plugin
        or a hook kept their tests from running in this process: pytest-forked runs each test in a process of its own.
        """
        if session.shouldstop or session.shouldfail or session.exitstatus not in _ENDED:
            self._stopped = True
            self._measured.clear()
            self.gathered.gates.clear()
        for planned in self.gates():
            if planned.key in self.gathered.gates.get(planned.model, {}):
                continue
            if planned.nodeid in self._skipped:
                self._record_skip(planned)
            elif self.judge(planned).failing and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _judged_nothing(self, session: pytest.Session) -> bool:
        """Return whether a plugin or a hook deselected so much that no gate saw all of its samples."""
        if self._stopped or session.exitstatus not in _ENDED or self.state.client is None:
            return False
        if not self.state.gates_asked or self.state.settings.narrowed or self.state.part_named:
            return False  # the user chose a part
        collected: set[str] = set()
        for suite in self.state.suites:
            if self.state.builtin_asked or not suite.builtin:
                collected.update(task.id for task in suite.tasks)
        chosen = [(gate, model) for gate, model in self._chosen() if collected.issuperset(gate.tasks)]
        if not chosen:
            return False
        return not any(self._saw_all(gate, model) for gate, model in chosen)

    def _saw_all(self, gate: Gate, model: str) -> bool:
        verdict = self.gathered.gates.get(model, {}).get(gate_key(gate, model))
        if verdict is None:
            return False
        return verdict.outcome != "skipped" or not self.selection(model).partial(gate.tasks)

    def _record_skip(self, planned: PlannedGate) -> None:
        """Keep the verdict of a gate that the project skipped, by a mark or in a hook."""
        result = GateResult(planned.gate, "skipped", None, self._skipped[planned.nodeid])
        self.gathered.gates.setdefault(planned.model, {})[planned.key] = result

    def _write(self) -> None:
        """Write the files of the run; one that cannot be written costs no other."""
        settings = self.state.settings
        for model in self.state.models:
            document = self._document(model)
            self.documents[model] = document
            with self._noting():
                self._compare_with_base(model, document)
            self._let_extend(document)
            if settings.results is not None:
                path = self.state.file_of(settings.results, model)
                with self._noting(path):
                    self._write_results(path, model)
        for model in self.state.models:
            if settings.report is not None:
                path = self.state.file_of(settings.report, model)
                with self._noting(path):
                    self._write_report(path, model)
            if settings.history is not None and settings.shard is None:
                with self._noting(settings.history):
                    self._add_to_history(settings.history, model)
        if self.state.several and settings.report is not None:
            with self._noting(settings.report):
                self._write_comparison(settings.report)

    def _write_results(self, path: Path, model: str) -> None:
        # The samples first: results that are there have all of their samples.
        write_whole(samples_beside(path), self._samples(model), "--trust-results")
        resulting.write_document(path, self.documents[model])

    def _compare_with_base(self, model: str, document: Results) -> None:
        """Add the comparison with the bare model, and write that model's results beside the run's."""
        label, base = self.state.base_label, self._base(model)
        if label is None or base is None:
            return
        finish = self.finish()
        document["base"] = {
            "file": None,
            "model": base_entry(self.state, finish),
            "usage": usage_entry(self.state, finish, label),
            "differences": self.measured(model).differences_from(base),
        }
        path = self.state.settings.results
        if path is not None:
            beside = base_beside(self.state.file_of(path, model))
            samples = samples_beside(beside)
            write_whole(samples, self._samples(label), "--trust-results")
            resulting.write_document(
                beside, base.document(self._run_entry(label), [], document["base"]["usage"], samples.name)
            )
            document["base"]["file"] = beside.name

    def _add_to_history(self, path: Path, model: str) -> None:
        """Add the run to a history, which texts never enter, whatever is shown elsewhere."""
        report = None
        if self.state.settings.report is not None:
            file = self.state.file_of(self.state.settings.report, model)
            base = path.parent if history.is_database(path) else path
            report = Path(os.path.relpath(file, base)).as_posix()
        document = masking.concealed(self.documents[model])
        entry = history.entry_of(document, self.gathered.parsed(model), report)
        history.append(path, entry, "--trust-history")

    def _write_report(self, path: Path, model: str) -> None:
        from pytest_trustllm.report.page import html

        run = html.Run(self.documents[model], map(json.loads, self._samples(model)))
        page = html.render(*self._baseline(model), run, content=self.state.settings.show_content)
        write_whole(path, [page], "--trust-report")

    def _let_extend(self, document: Results) -> None:
        """Let the user's hook add to ``run.extra``. It gets a copy: a mistake in it cannot spoil the results."""
        hook = self.state.config.hook.pytest_trustllm_results
        results = copy.deepcopy(document)
        self._call(hook, results=results)
        extra: object = results["run"]["extra"]  # the user's code may have put anything there
        if not isinstance(extra, dict):
            self._notes.append(f"{hook.name}: run.extra is {type(extra).__name__}, expected a mapping; it is left out")
            return
        for name, value in extra.items():
            try:
                json.dumps({name: value}, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as e:
                where = f"{hook.name}: run.extra[{one_line(repr(name), 60)}]"
                self._notes.append(f"{where} cannot be written as JSON: {one_line(e, 120)}; it is left out")
            else:
                document["run"]["extra"][name] = value

    def _write_comparison(self, path: Path) -> None:
        """Write the report of all models side by side, in addition to that of each model."""
        from pytest_trustllm.report.page import html

        first, *_, last = self.state.models
        differences = self.measured(last).differences_from(self.measured(first))
        runs = []
        for model in self.state.models:
            samples = map(json.loads, self._samples(model))
            runs.append(html.Run(self.documents[model], samples, differences if model == last else {}))
        page = html.render(*runs, content=self.state.settings.show_content)
        write_whole(path, [page], "--trust-report")

    def _baseline(self, model: str) -> list[html.Run]:
        """Return the earlier run that the report compares this one with."""
        from pytest_trustllm.report.page import html

        baseline = self.state.baselines.get(model)
        if baseline is None:
            return []
        path = self.state.settings.baseline
        assert path is not None  # noqa: S101 - it was read
        return [html.Run(baseline.results, samples_of(baseline.results, self.state.file_of(path, model)))]

    def _samples(self, model: str, only: Collection[str] | None = None) -> Iterator[str]:
        """Return the lines of the samples file, or those of the named samples."""
        assert self.state.host is not None  # noqa: S101 - there was a plan
        records = self.gathered.records.get(model, {})
        plan = self.finish()["plan"]
        assert plan is not None  # noqa: S101 - nothing is written without one
        ordered = {key: records[key] for key in plan["keys"] if key in records and (only is None or key in only)}
        return sample_lines(ordered, self.state.host.transcript)

    def _document(self, model: str) -> Results:
        samples = None
        if self.state.settings.results is not None:
            samples = samples_beside(self.state.file_of(self.state.settings.results, model)).name
        shipped: set[str] = set()
        for suite in self.state.suites:
            if suite.builtin:
                shipped.update(task.id for task in suite.tasks)
        document = self.measured(model).document(
            self._run_entry(model),
            list(self.gathered.gates.get(model, {}).values()),
            usage_entry(self.state, self.finish(), model),
            samples,
            deselected=self._deselected(model),
            resembling=self.state.resembling(),
            shipped=shipped,
        )
        unwritten = self.state.unwritten_thresholds()
        if unwritten is not None:
            document["unjudged"]["unwritten"] = unwritten
        return document

    def _run_entry(self, model: str) -> RunEntry:
        measured = self.measured(model)  # it may have to wait for the bare model
        selection, seconds = self.selection(model), time.monotonic() - self._clock
        run = FinishedRun(model, self.finish(), selection, measured, self._started, seconds, stopped=self._stopped)
        entry = run_entry(self.state, run)
        stop = stop_entry(self.state, run, self._stop_report(model))
        if stop is not None:
            entry["stop"] = stop
        return entry

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print what a person wants to know first."""
        from pytest_trustllm.report import github, terminal
        from pytest_trustllm.report.plan import plan_lines

        settings = self.state.settings
        for plan in self._plans:
            terminalreporter.section(f"trust: plan for {one_line(plan.model, 60)}, nothing was asked")
            for line in plan_lines(plan):
                terminalreporter.write_line(line)
        for model, results in self.documents.items():
            tested = results["run"]["model"]
            terminalreporter.section(f"trust: {one_line(tested['name'], 60)}")
            if "label" in tested:
                label = one_line(tested["label"], 60)
                terminalreporter.write_line(
                    f"the fixture trust_model was tested, not {label!r}: that name only chooses gates and baselines"
                )
            for line in terminal.summary(self._shown(results), self._reasons(model)):
                terminalreporter.write_line(github.harmless(line) if github.is_here() else line)
            for flag, path in (("results", settings.results), ("report", settings.report)):
                if path is not None and self.state.file_of(path, model) in self._written:
                    terminalreporter.write_line(f"{flag}: {self.state.file_of(path, model)}")
        if self.documents:
            self._tell_history(terminalreporter)
        if self._measured_nothing and self._why_no_plan not in self._notes:
            terminalreporter.write_line(self._why_nothing_is_written(), yellow=True)
        if github.is_here():
            shown = [self._shown(results) for results in self.documents.values()]
            for line in github.commands(shown, self.state.config.rootpath):
                terminalreporter.write_line(line)
        if self.state.several and settings.report in self._written:
            terminalreporter.write_line(f"report of all models: {settings.report}")
        for note in self._notes:
            terminalreporter.write_line(f"ERROR: {note}", red=True)

    def _why_nothing_is_written(self) -> str:
        """Return a line for a run without a single item: if it is green, that says nothing about the model."""
        settings = self.state.settings
        line = "trust: no item of a suite ran, so there are no results"
        asked = [str(path) for path in (settings.results, settings.report, settings.history) if path is not None]
        return f"{line}; not written: {', '.join(asked)}" if asked else line

    def _tell_history(self, terminalreporter: TerminalReporter) -> None:
        """Print where the run was added, or why it was not."""
        path = self.state.settings.history
        if path is not None and self.state.settings.shard is not None:
            why = "a shard is not a run, and not added; 'pytest-trustllm merge --history' adds the whole"
            terminalreporter.write_line(f"history: {why}")
        elif path in self._written:
            terminalreporter.write_line(f"history: {path}")

    def _shown(self, results: Results) -> Results:
        if self.state.settings.show_content:
            return results
        return masking.concealed(results)

    def _tell_ci(self) -> None:
        """Add trust scores to the JUnit file, and a summary to the step of a GitHub workflow."""
        from pytest_trustllm.report import github

        for model, results in self.documents.items():
            self._junit(model, results)
            with self._noting():
                github.write_summary(self._shown(results), self._reasons(model))

    def _junit(self, model: str, results: Results) -> None:
        """Add properties to the suite in the JUnit file."""
        # The writer is registered under a private key; the name of its method is documented.
        for plugin in self.state.config.pluginmanager.get_plugins():
            add = getattr(plugin, "add_global_property", None)
            if add is not None:
                self._add_scores(add, model, results)
                if not self._cases_have_properties:
                    self._add_gates(add, model)

    def _add_scores(self, add: Callable[[str, object], None], model: str, results: Results) -> None:
        prefix = f"trust.{model}" if self.state.several else "trust"
        add(f"{prefix}.model", one_line(results["run"]["model"]["name"]))
        for name, score in results["scores"].items():
            add(f"{prefix}.score.{name}", _number(score["value"]))
            limits = score.get("ci")
            if limits is not None:
                add(f"{prefix}.score.{name}.ci", " ".join(map(_number, limits)))

    def _add_gates(self, add: Callable[[str, object], None], model: str) -> None:
        for result in self.gathered.gates.get(model, {}).values():
            nodeid = gate_id(self.state, result.gate, model)
            for name, value in self._gate_properties(result):
                add(f"{one_line(nodeid)}.{name}", value)

    def _reasons(self, model: str) -> list[tuple[str, str, int]]:
        """Return task, reason and number of the unscored samples."""
        return [(task, self.shown(reason), count) for task, reason, count in self.measured(model).reasons]


GATHERER: pytest.StashKey[Gatherer] = pytest.StashKey()


def _why_skipped(report: pytest.TestReport) -> str:
    """Return the reason that pytest gives for a test that a mark or a hook skipped."""
    skip = report.longrepr  # (path, line, reason)
    reason = skip[-1] if isinstance(skip, tuple) else str(skip)
    return f"its test was skipped: {reason.removeprefix('Skipped: ')}"


def _number(value: float | None) -> str:
    return "none" if value is None else repr(value)
