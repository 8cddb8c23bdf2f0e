"""What a run would ask, cost and take, before it asks anything (``--trust-plan``)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_trustllm.engine.asking import interleaved, shuffled_units
from pytest_trustllm.engine.budget import cost
from pytest_trustllm.engine.keys import split_key
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import Record, Results
from pytest_trustllm.gates.deciding import SourcePlan, metric_of
from pytest_trustllm.gates.dropping import EarlierSample, earlier_samples
from pytest_trustllm.gates.family import deciders_of, levels
from pytest_trustllm.gates.least import least_samples
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.plugin.stop_plan import rules
from pytest_trustllm.report.plan import ModelPlan, PlannedTask
from pytest_trustllm.results.files import read_results, samples_of
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Sample, tokens_of

_ASSUMED: Stop = 0.05
"""The rule that is shown for gates that would ask all of their samples, to tell what another would save."""


@dataclass(slots=True)
class _Spent:
    """What an earlier run spent on the samples of one task, as far as it knows.

    Attributes:
        samples: Number of them.
        responses: Answers of the model under test.
        sent: Tokens of its prompts; None: unknown.
        received: Tokens of its answers; None: unknown.
        roles: Role -> tokens of its prompts and of its answers.
    """

    samples: int = 0
    responses: int = 0
    sent: int | None = 0
    received: int | None = 0
    roles: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _LastRun:
    """An earlier run, from which tokens and pace are known.

    Attributes:
        file: How messages name it.
        results: Its results.
        spent: Task -> what its samples took.
    """

    file: str
    results: Results
    spent: Mapping[str, _Spent]

    def seconds_per_token(self) -> float | None:
        """Return the time that a token of an answer took; None if the run sent nothing, or does not know."""
        usage = self.results["usage"]
        if not usage["output_tokens"]:
            return None
        return usage["seconds"] / usage["output_tokens"]

    def seconds_per_request(self) -> float | None:
        """Return the time that a request took; None if the run sent none."""
        usage = self.results["usage"]
        return usage["seconds"] / usage["requests"] if usage["requests"] else None


def run_plans(state: RunState, keys: Sequence[str], gates: Mapping[str, str]) -> list[ModelPlan]:
    """Return what every model of the run would be asked.

    Args:
        state: The run; its models are not started.
        keys: Of the selected samples.
        gates: Key -> node id of the selected gates.
    """
    by_model: dict[str, Counter[str]] = {model: Counter() for model in state.models}
    chosen: dict[tuple[str, str], set[str]] = {}
    for key in keys:
        parts = split_key(key)
        by_model[parts.model][parts.task] += 1
        chosen.setdefault((parts.model, parts.task), set()).add(parts.sample)
    tasks = {task.id: task for task in state.tasks()}
    plans: list[ModelPlan] = []
    for model, counts in by_model.items():
        samples: dict[str, list[Sample]] = {}
        for task_id in counts:
            wanted = chosen[model, task_id]
            samples[task_id] = [sample for sample in state.samples(tasks[task_id]) if sample.id in wanted]
        plans.append(_Planner(state, model, tasks, samples, gates).plan())
    return plans


class _Planner:
    """Plans the run of one model.

    Args:
        state: The run.
        model: Its label.
        tasks: All tasks.
        samples: Task -> its selected samples.
        gates: Key -> node id of the selected gates.
    """

    def __init__(
        self,
        state: RunState,
        model: str,
        tasks: Mapping[str, Task],
        samples: Mapping[str, Sequence[Sample]],
        gates: Mapping[str, str],
    ) -> None:
        self._state = state
        self._model = model
        self._tasks = tasks
        self._samples = samples
        self._last = _last_run(state, model)
        self._rules = rules(state, model, samples, gates)
        self._plans = {task_id: self._source_plan(task_id) for task_id in samples}

    def _source_plan(self, task_id: str) -> SourcePlan:
        readers = {task.id: task for task in self._tasks.values() if task.answers_from == task_id}
        return SourcePlan(shuffled_units(self._samples[task_id], self._state.settings.seed), readers)

    def plan(self) -> ModelPlan:
        """Return the plan."""
        assumed = all(stop == "never" for _, stop in self._rules.values())
        gates = {key: (gate, _ASSUMED if assumed else stop) for key, (gate, stop) in self._rules.items()}
        least = self._least(gates)
        probable = self._probable(gates)
        spec = self._state.models[self._model]
        price = None if spec is None else spec.options.get("price")
        rows: list[PlannedTask] = []
        for task_id in self._samples:
            rows.append(self._row(task_id, price, least.get(task_id), probable.get(task_id)))
        numbers = [stop for _, stop in gates.values() if isinstance(stop, float)]
        rule = f"{max(numbers):g}" if numbers else "exact"
        return ModelPlan(
            model=self._model,
            tasks=rows,
            roles=self._roles(),
            rule=rule if gates else None,
            assumed=assumed,
            last=None if self._last is None else self._last.file,
            replayed=bool(probable),
        )

    def _row(
        self, task_id: str, price: Mapping[str, float] | None, least: int | None, probable: int | None
    ) -> PlannedTask:
        task, samples = self._tasks[task_id], self._samples[task_id]
        epochs = self._state.settings.epochs
        requests = epochs * sum(len(sample.prompts) for sample in samples)
        sent = epochs * sum(_prompt_tokens(sample) for sample in samples)
        received, at_most = requests * task.generation.most_tokens, True
        spent = None if self._last is None else self._last.spent.get(task_id)
        if spent is not None and spent.responses and spent.received is not None:
            received, at_most = round(requests * spent.received / spent.responses), False
        if spent is not None and spent.responses and spent.sent is not None:
            sent = round(requests * spent.sent / spent.responses)
        return PlannedTask(
            task=task_id,
            samples=len(samples),
            requests=requests,
            input_tokens=sent,
            output_tokens=received,
            output_at_most=at_most,
            usd=None if price is None else cost(price, sent, received),
            seconds=self._seconds(requests, None if at_most else received),
            least=least,
            probable=probable,
        )

    def _seconds(self, requests: int, received: int | None) -> float | None:
        if self._last is None:
            return None
        per_token, per_request = self._last.seconds_per_token(), self._last.seconds_per_request()
        if received is not None and per_token is not None:
            return received * per_token
        return None if per_request is None else requests * per_request

    def _roles(self) -> dict[str, tuple[int, int, float | None]]:
        """Return role -> expected tokens of its prompts and answers, and their price."""
        totals: dict[str, list[float]] = {}
        if self._last is not None:
            for task_id, samples in self._samples.items():
                spent = self._last.spent.get(task_id)
                if spent is None or not spent.samples:
                    continue
                for role, tokens in spent.roles.items():
                    total = totals.setdefault(role, [0.0, 0.0])
                    total[0] += tokens[0] * len(samples) / spent.samples
                    total[1] += tokens[1] * len(samples) / spent.samples
        expected: dict[str, tuple[int, int, float | None]] = {}
        for role, total in totals.items():
            sent, received = round(total[0]), round(total[1])
            if role in self._state.roles and sent + received > 0:
                price = self._state.roles[role].options.get("price")
                expected[role] = sent, received, None if price is None else cost(price, sent, received)
        return expected

    # --- what gates need ------------------------------------------------------------------------------------------

    def _least(self, gates: Mapping[str, tuple[Gate, Stop]]) -> dict[str, int]:
        """Return task -> samples without which its gates cannot be decided, whatever is answered."""
        shares = levels(gates, self._plans)
        needed: dict[str, int] = {}
        for key, (gate, _) in gates.items():
            for task_id in gate.tasks:
                if task_id not in self._plans:
                    continue
                plan = self._plans[task_id]
                if gate.metric_id is None:  # a score that passes needs the coverage of all of its tasks
                    count = math.ceil(gate.policy.min_scored * plan.samples)
                else:
                    count = least_samples(gate, plan, shares.get(key))
                needed[task_id] = max(needed.get(task_id, 0), count)
        return needed

    def _probable(self, gates: Mapping[str, tuple[Gate, Stop]]) -> dict[str, int]:
        """Return task -> samples that would be asked if the model answered as in its baseline."""
        baseline = self._state.baselines.get(self._model)
        settings = self._state.settings
        if baseline is None or not gates or baseline.run["epochs"] != settings.epochs:
            return {}
        records = {(record["task"], record["id"]): record for record in baseline.records}
        before = self._before(gates, baseline.records)
        deciders = deciders_of(gates, self._plans, settings.epochs, ungated=settings.stop_ungated, before=before)
        asked = dict.fromkeys(self._plans, 0)
        complete = dict.fromkeys(self._plans, True)
        for task_id, unit in interleaved({task_id: plan.units for task_id, plan in self._plans.items()}):
            if not deciders.needed(task_id):
                continue
            asked[task_id] += len(unit)
            of_unit = [records.get((task_id, sample.id)) for sample in unit]
            known = [record for record in of_unit if record is not None]
            complete[task_id] = complete[task_id] and len(known) == len(unit)
            if complete[task_id]:
                deciders.take(task_id, unit, known)
        return {task_id: count for task_id, count in asked.items() if complete[task_id]}

    def _before(
        self, gates: Mapping[str, tuple[Gate, Stop]], records: Sequence[Record]
    ) -> dict[str, list[EarlierSample]]:
        before: dict[str, list[EarlierSample]] = {}
        for gate, _ in gates.values():
            if gate.metric_id is not None:
                task, spec, group = metric_of(gate, self._tasks)
                before[gate.id] = earlier_samples(records, task.id, spec, group, gate.reading)
        return before


def _prompt_tokens(sample: Sample) -> int:
    return sum(tokens_of(content) for prompt in sample.prompts for _, content in prompt)


def _last_run(state: RunState, model: str) -> _LastRun | None:
    """Return the run of the same model whose results are where this one would write, else its baseline; None without.

    A file that cannot be used is no error here: nothing but the plan depends on it.
    """
    paths: list[Path] = []
    for path in (state.settings.results, state.settings.baseline):
        if path is not None:
            paths.append(state.file_of(path, model))
    for path in paths:
        try:
            results = read_results(path)
            info = results["run"]["model"]
            if model not in (info["name"], info.get("label")):
                continue
            return _LastRun(path.name, results, _spent(results, path))
        except ResultsError:
            continue
    return None


def _spent(results: Results, path: Path) -> dict[str, _Spent]:
    by_task: dict[str, _Spent] = {}
    for line in samples_of(results, path):
        spent = by_task.setdefault(line["task"], _Spent())
        spent.samples += 1
        for response in line.get("responses", ()):
            spent.responses += 1
            spent.sent = _sum(spent.sent, response.get("input_tokens"))
            spent.received = _sum(spent.received, response.get("output_tokens"))
        for verdict in line.get("verdicts", ()):
            tokens = spent.roles.setdefault(verdict.get("role", ""), [0, 0])
            tokens[0] += verdict.get("input_tokens", 0)
            tokens[1] += verdict.get("output_tokens", 0)
    return by_task


def _sum(total: int | None, more: int | None) -> int | None:
    """Return a sum; None if any part is unknown."""
    return None if total is None or more is None else total + more
