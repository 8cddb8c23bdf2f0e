"""The messages between test processes and the model host, as types; :mod:`pytest_trustllm.models.frames` sends them.

A call holds ``op`` and the keys of its type here; the reply holds the keys of its own type, or ``error``.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from pytest_trustllm.formats import DecisionEntry, EstimatedCost, StoppedTaskEntry, Transcript, UsageEntry
from pytest_trustllm.gates.stopping import Stop
from pytest_trustllm.models.base import ModelKind
from pytest_trustllm.suites.audited import AuditedRun

FIXTURE = "fixture"
"""What the host calls the model behind an overridden ``trust_model`` fixture, whatever its label is."""

# --- the configuration, the first line on the host's standard input ---------------------------------------------------


class SuiteLocation(TypedDict):
    """What the host needs to read a suite.

    Keys:
        builtin: It ships with this package.
        package: Name of the installed package that it belongs to; empty: none.
    """

    path: str
    builtin: bool
    package: str


class LoadFields(TypedDict):
    """The fields of :class:`~pytest_trustllm.models.base.LoadSettings`."""

    device: str
    batch_size: int | None
    max_concurrency: int | None
    logs: str | None
    cluster: str | None
    sharing: int


class SpecFields(TypedDict):
    """The fields of :class:`~pytest_trustllm.models.base.ModelSpec`."""

    name: str
    provider: str
    target: str
    revision: str | None
    kind: ModelKind
    options: dict[str, Any]


class RunConfig(TypedDict):
    """What a test process knows about the run.

    Keys:
        models: Label -> model under test, and the bare model behind it; without that of a fixture.
        fixture: A ``trust_model`` fixture answers, in the test processes.
        roles: Role -> model.
        card: Path of the model's card; None: there is none.
        audited: A saved run; None: there is none.
        root: The rootdir.
        registry: What extensions registered.
        sys_path: The import path of the test process.
        batch: What becomes of requests to models whose server has batches; None: they are sent directly.
        budget: The fields of every :class:`~pytest_trustllm.engine.budget.Limit`.
        before: Model -> id of a gate -> the fields of every
            :class:`~pytest_trustllm.gates.dropping.EarlierSample` of its metric.
    """

    models: dict[str, SpecFields]
    fixture: bool
    roles: dict[str, SpecFields]
    load: LoadFields
    suites: list[SuiteLocation]
    data: str
    card: str | None
    audited: AuditedRun | None
    root: str
    registry: dict[str, Any]
    sys_path: list[str]
    store: str
    fresh: bool
    offline: bool
    seed: int
    epochs: int
    judge_votes: int
    blocked: Literal["refusal", "unscored"]
    batch: Literal["submit", "wait"] | None
    budget: list[tuple[Any, ...]]
    before: dict[str, dict[str, list[Any]]]


class HostConfig(RunConfig):
    """A run's configuration, with what the process that starts the host adds.

    Keys:
        token: Clients show it in their first frame.
        directory: The socket's; removed when the host ends.
        transcript: File for the texts of samples.
    """

    token: str
    directory: str
    transcript: str


# --- calls ------------------------------------------------------------------------------------------------------------


class AppCall(TypedDict):
    """Names the app of a fixture.

    Keys:
        where: Which definition of the fixture made it.
    """

    name: str
    where: str


class GateFields(TypedDict):
    """A gate that may be decided before all of its samples are asked.

    Keys:
        gate: The fields of a :class:`~pytest_trustllm.gates.verdict.Gate`.
        stop: The rule that holds for it.
    """

    gate: dict[str, Any]
    stop: Stop


class StopPlan(TypedDict):
    """When to stop asking.

    Keys:
        gates: Model -> key of the gate -> the gate, of all that the run will judge.
        ungated: Do not ask tasks that no gate is about.
        required: Keys of samples that are asked in any case: the user's own tests want them.
    """

    gates: dict[str, dict[str, GateFields]]
    ungated: bool
    required: list[str]


class Plan(TypedDict):
    """What was selected.

    Keys:
        keys: Of the samples, in the order of the tests.
        items: How many of them have an item of their own; they come first.
        totals: Task -> samples that its data has.
        gates: Key -> node id of the selected gates.
        stop: None: every sample is asked.
    """

    keys: list[str]
    items: int
    totals: dict[str, int]
    gates: dict[str, str]
    stop: StopPlan | None


class NeedCall(TypedDict):
    """Wants the first of the keys, and whichever of the others are ready."""

    keys: list[str]


class KeyCall(TypedDict):
    """Is about one sample."""

    key: str


class GenerationFields(TypedDict):
    """The fields of :class:`~pytest_trustllm.types.Generation`."""

    temperature: float
    max_new_tokens: int
    stop: list[str]
    thinking_tokens: int


class AskCall(TypedDict):
    """Sends one request to a model under test."""

    model: str
    messages: list[list[str]]
    generation: GenerationFields
    seed: int
    tools: list[dict[str, Any]]


class ProvideCall(TypedDict):
    """Turns a connection around: from now on the host asks, and the test process answers with its app.

    Keys:
        places: Requests that the process answers at once.
        max_concurrency: The same for all processes together.
    """

    places: int
    name: str
    max_concurrency: int
    revision: str | None


# --- replies ----------------------------------------------------------------------------------------------------------


class Done(TypedDict):
    """The call needs no answer but that it succeeded."""

    ok: bool


STUCK = "-stuck"
"""What is appended to the host's address for the socket that replies when nothing else does."""
NOT_NEEDED = "not needed"
"""Status of a sample that is not asked, because every gate that it could matter to is decided."""


class NeedReply(TypedDict):
    """The records that are ready: key -> [status, record as JSON text, fatal].

    In place of a record, a sample that is ``NOT_NEEDED`` has the reason.
    """

    records: dict[str, list[Any]]


class DetailReply(TypedDict):
    """The texts of a sample."""

    transcript: Transcript


class AskReply(TypedDict):
    """The fields of the :class:`~pytest_trustllm.types.Response`."""

    response: dict[str, Any]


class ReadyCall(TypedDict):
    """Which models must be started before the first test.

    Keys:
        models: Labels of models under test.
        roles: Roles.
    """

    models: list[str]
    roles: list[str]


class StatusReply(TypedDict):
    """How far the run is.

    Keys:
        planned: Samples of the plan; ``done`` of them have a record.
        cost_usd: None if no price is known.
        estimate: Only in a run with a budget, once it is known.
        batches: Open batches that the run waits for, how many of their requests are done, and how many they have.
        loading: What a model that is being started does.
    """

    planned: int
    done: int
    requests: int
    cached: int
    tokens: int
    cost_usd: float | None
    estimate: EstimatedCost | None
    batches: list[int]
    loading: str | None


class Spending(TypedDict):
    """A budget and what was spent of it.

    Keys:
        given: Kind -> limit.
        spent: Kind -> amount; None: nothing that was sent has a price.
        reached: Which limit ended the run, in words.
    """

    given: dict[str, float]
    spent: dict[str, float | None]
    reached: str | None


class UnansweredReport(TypedDict):
    """A batch that was over and said nothing about some of its requests.

    Keys:
        batch: The server's id of it.
        requests: How many it had; ``answered`` of them have a line.
        reason: What the server says about the batch.
        again: How many requests were submitted again; ``attempt`` tells how often they are in a batch then.
    """

    batch: str
    requests: int
    answered: int
    reason: str
    again: int
    attempt: int


class BatchReport(TypedDict):
    """What became of a model's requests that are in batches.

    Keys:
        pending: Id of a batch -> requests of the run that wait for it; empty id: they are not submitted yet.
        asked_directly: Id of a batch -> requests of the run that are in it and were sent directly all the same.
        unanswered: Batches collected in this run that did not answer all of their requests.
    """

    pending: dict[str, int]
    asked_directly: dict[str, int]
    unanswered: list[UnansweredReport]


class BudgetReport(Spending):
    """The spending, and what was expected of it."""

    estimate: EstimatedCost | None


class StopReport(TypedDict):
    """What stopping early came to, for one model.

    Keys:
        decisions: Key of the gate -> how it was decided early.
        whole: Key of the gate -> why it could not be.
        shares: Key of the gate -> its share of alpha.
        tasks: Task -> what was not asked of it.
    """

    decisions: dict[str, DecisionEntry]
    whole: dict[str, str]
    shares: dict[str, float]
    tasks: dict[str, StoppedTaskEntry]


class FinishReply(TypedDict):
    """What the results file records about the host's work.

    Keys:
        models: Label or role -> what identifies the model.
        usage: Label or role -> what it was sent and spent.
        errors: Role -> why its model could not be loaded.
        budget: None in a run without a budget.
        batches: Label or role -> what became of its requests in batches; only models that have some.
        data: Data file -> SHA-256.
        stop: Model -> what stopping early came to; None: every sample was asked.
    """

    plan: Plan | None
    models: dict[str, dict[str, Any]]
    usage: dict[str, UsageEntry]
    errors: dict[str, str]
    budget: BudgetReport | None
    batches: dict[str, BatchReport]
    data: dict[str, str]
    stop: dict[str, StopReport] | None
