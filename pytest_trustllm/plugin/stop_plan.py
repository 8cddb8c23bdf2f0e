"""When a run may stop asking: which rule holds for each of its gates."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_trustllm.engine.keys import split_key
from pytest_trustllm.engine.messages import GateFields, StopPlan
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.plugin.node_ids import gate_key
from pytest_trustllm.plugin.run_state import RunState
from pytest_trustllm.types import Selection


def stop_plan(state: RunState, keys: Sequence[str], extra: Sequence[str], gates: Mapping[str, str]) -> StopPlan | None:
    """Return when to stop asking; None if no gate may be decided before all of its samples are asked.

    Args:
        state: The run.
        keys: Samples that are items.
        extra: Samples that the user's own tests want.
        gates: Key -> node id of the selected gates.
    """
    settings = state.settings
    # other shards have answers that this one does not know; a batch is submitted before its first answer is there
    if settings.stop == "never" or settings.shard is not None or settings.batch is not None:
        return None
    selections = _selections(state, keys)
    by_model: dict[str, dict[str, GateFields]] = {}
    may_stop = False
    for model, selection in selections.items():
        by_model[model] = {}
        for gate in state.chosen_gates(model):
            key = gate_key(gate, model)
            if key not in gates:
                continue
            stop = _rule(gate, selection, state.settings.stop)
            may_stop = may_stop or stop != "never"
            by_model[model][key] = {"gate": dataclasses.asdict(gate), "stop": stop}
    if not may_stop:
        return None
    return {"gates": by_model, "ungated": state.settings.stop_ungated, "required": list(extra)}


def rules(
    state: RunState, model: str, samples: Mapping[str, Sequence[object]], gates: Mapping[str, str]
) -> dict[str, tuple[Gate, Stop]]:
    """Return key -> gate and its rule, of the selected gates of a model; as :func:`stop_plan`, before anything starts.

    Args:
        state: The run.
        model: Its label.
        samples: Task -> its selected samples.
        gates: Key -> node id of the selected gates.
    """
    counts = {task: len(of_task) for task, of_task in samples.items()}
    selection = Selection(state.totals(set(counts)), counts)
    never = state.settings.stop == "never" or state.settings.shard is not None or state.settings.batch is not None
    found: dict[str, tuple[Gate, Stop]] = {}
    for gate in state.chosen_gates(model):
        key = gate_key(gate, model)
        if key in gates:
            found[key] = gate, "never" if never else _rule(gate, selection, state.settings.stop)
    return found


def _selections(state: RunState, keys: Sequence[str]) -> dict[str, Selection]:
    """Return model -> what was selected."""
    planned: dict[str, Counter[str]] = {model: Counter() for model in state.models}
    tasks: set[str] = set()
    for key in keys:
        parts = split_key(key)
        planned[parts.model][parts.task] += 1
        tasks.add(parts.task)
    totals = state.totals(tasks)
    return {model: Selection(totals, counts) for model, counts in planned.items()}


def _rule(gate: Gate, selection: Selection, option: Stop | None) -> Stop:
    """Return the rule for a gate: its own, else its file's, else that of the option."""
    if gate.policy.on_partial != "judge" and selection.partial(gate.tasks):
        return "never"  # a part of the samples decides nothing for certain
    for stop in (gate.stop, gate.policy.stop, option):
        if stop is not None:
            return stop
    return "never"
