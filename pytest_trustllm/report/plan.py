"""The plan of a run that has not asked anything yet, as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.report.lines import WIDTH, cut, flat, hanging
from pytest_trustllm.report.terminal import duration, usd

_SHORTEST_NAME = 12
_HEAD = ("samples", "input", "output", "price", "time", "at least", "likely")


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """What a task would take.

    Attributes:
        task: ``dimension/task``.
        samples: Selected samples.
        requests: To the model under test.
        input_tokens: Of the prompts.
        output_tokens: Of the answers.
        output_at_most: The answers' tokens are the most that they may have: no earlier run tells more.
        usd: Price of both; None: unknown.
        seconds: At the pace of the last run; None without one.
        least: Samples without which its gates cannot be decided; None: it has no gate.
        probable: Samples that would be asked if the model answered as in its baseline; None: unknown.
    """

    task: str
    samples: int
    requests: int
    input_tokens: int
    output_tokens: int
    output_at_most: bool
    usd: float | None
    seconds: float | None
    least: int | None
    probable: int | None


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What a model would be asked.

    Attributes:
        model: Its label.
        tasks: In the order of the run.
        roles: Role -> expected tokens of prompts and answers, and their price; None: unknown.
        rule: When gates are decided, for ``least`` and ``probable``; None without gates.
        assumed: The run itself asks every sample; the rule only shows what it would save.
        last: The results file from which tokens and pace are known; None: there is none.
        replayed: A baseline told what would be asked.
    """

    model: str
    tasks: Sequence[PlannedTask]
    roles: Mapping[str, tuple[int, int, float | None]]
    rule: str | None
    assumed: bool
    last: str | None
    replayed: bool


def plan_lines(plan: ModelPlan) -> Iterator[str]:
    """Yield the plan of one model: a line per task, their sum, and what the numbers rest on."""
    rows = [(task.task, _cells(task)) for task in plan.tasks]
    if len(plan.tasks) > 1:
        rows.append(("all", _cells(_sum(plan.tasks))))
    rows.insert(0, ("task", _HEAD))
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(_HEAD))]
    room = max(_SHORTEST_NAME, WIDTH - sum(widths) - 2 * len(widths))
    longest = max(len(flat(name, room)) for name, _ in rows)
    for name, cells in rows:
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        yield "  ".join([flat(name, room).ljust(longest), *numbers])
    for role, (sent, received, price) in plan.roles.items():
        cost = "" if price is None else f", {usd(price)}"
        yield cut(f"{flat(role, 20)}: {sent:,} + {received:,} tokens{cost}")
    for note in _notes(plan):
        yield from hanging(note)


def _cells(task: PlannedTask) -> tuple[str, ...]:
    output = f"<= {task.output_tokens:,}" if task.output_at_most else f"{task.output_tokens:,}"
    return (
        f"{task.samples:,}",
        f"{task.input_tokens:,}",
        output,
        "-" if task.usd is None else usd(task.usd),
        "-" if task.seconds is None else duration(task.seconds),
        "-" if task.least is None else f"{task.least:,}",
        "-" if task.probable is None else f"{task.probable:,}",
    )


def _sum(tasks: Sequence[PlannedTask]) -> PlannedTask:
    """Return the sum of all tasks; a column is unknown if it is for any of them."""
    prices = [task.usd for task in tasks]
    times = [task.seconds for task in tasks]
    likely = [task.probable for task in tasks]
    return PlannedTask(
        task="all",
        samples=sum(task.samples for task in tasks),
        requests=sum(task.requests for task in tasks),
        input_tokens=sum(task.input_tokens for task in tasks),
        output_tokens=sum(task.output_tokens for task in tasks),
        output_at_most=any(task.output_at_most for task in tasks),
        usd=None if None in prices else sum(price or 0.0 for price in prices),
        seconds=None if None in times else sum(time or 0.0 for time in times),
        least=sum(task.least or 0 for task in tasks),
        probable=None if None in likely else sum(count or 0 for count in likely),
    )


def _notes(plan: ModelPlan) -> Iterator[str]:
    if plan.last is None:
        yield "tokens: of the prompts about, of the answers at most; no earlier run tells more, nor the pace"
    else:
        yield f"tokens and pace: as in the run in {flat(plan.last, 40)}"
    if plan.rule is None:
        return
    rule = f"--trust-stop={plan.rule}"
    if plan.assumed:
        rule += ", which this run does not have: it asks every sample"
    note = f"at least: samples without which the gates cannot be decided with {rule}"
    if plan.replayed:
        note += "; likely: what would be asked if the model answered as in its baseline"
    yield note
