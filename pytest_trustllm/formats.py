"""What a run writes, as types: records of samples, lines of the samples file, and the results file.

Each document has one builder and one reader. The reader, :mod:`pytest_trustllm.results.files`, checks a file against
these types when it is read; after that, every key that is not marked ``NotRequired`` is present. ``pytest-trustllm
schema`` publishes the types as JSON Schema. A file may contain keys that are not named here, since later versions may
add some; readers ignore them.

``NotRequired`` marks keys that are left out where they do not apply, and keys that older files lack.
"""

# No "from __future__ import annotations": with annotations as text, TypedDict cannot see which keys are NotRequired.

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pytest_trustllm.types import GateScoring, Status


@dataclass(frozen=True, slots=True)
class Least:
    """The least value that a number may have."""

    least: int


@dataclass(frozen=True, slots=True)
class Length:
    """How many entries a list has."""

    length: int


Count = Annotated[int, Least(0)]
StopRule = Literal["exact", "alpha"]
GateOutcome = Literal["passed", "failed", "inconclusive", "no_data", "skipped"]
LimitsEntry = Annotated[list[float], Length(2)]
"""Lower and upper limit of an interval."""
ChatEntry = list[Annotated[list[str], Length(2)]]
"""A chat: role and content of every message."""


# --- one sample -------------------------------------------------------------------------------------------------------


class ScoreEntry(TypedDict):
    """The score of a sample, or of one epoch of it.

    Keys:
        value: Corrected reading; null if the sample is unscored, for the reason in ``reason``.
        answer: What the scorer read out of the response.
        reason: Why there is no value.
        observed: What metrics need in addition to the value.
        parity: The authors' toolkit's reading: ``same``, ``raises``, null, or a mapping with ``value``.
        met: Whether the target is met.
        applies: False if the task does not concern the sample.
        epochs: The score of each epoch, for a sample that was answered several times.
        reducer: Which of the epochs the score is; absent: their mean.
        unanswered: Why a reply contains no answer although nothing failed.
    """

    value: float | None
    answer: str | None
    reason: str | None
    observed: dict[str, Any]
    parity: dict[str, Any] | str | None
    met: NotRequired[bool]
    applies: NotRequired[bool]
    epochs: NotRequired[list["ScoreEntry"]]
    reducer: NotRequired[str]
    unanswered: NotRequired[str]


class Record(ScoreEntry):
    """A sample after its run, without texts: every number is computed from records.

    Keys:
        task: ``dimension/task``.
        id: Id of the sample, unique within its task.
        fingerprint: Hash that changes with the prompts, the rows and the task's version.
        group: Group name -> value.
        status: Outcome that the test shows.
        also: Task that reads the same responses -> its score.
        cluster: Samples with the same cluster come from one source item.
        cut: The sample is left for another run: the budget is spent, or requests of it are ``pending``.
        pending: Requests of the sample are in a batch that is not done.
        silent: There is no response, or it is blank.
        agreement: Share of the judge's votes for the verdict that counts, in (0, 1].
    """

    task: str
    id: str
    fingerprint: str
    group: dict[str, str]
    status: Status
    also: dict[str, ScoreEntry]
    cluster: NotRequired[str]
    cut: NotRequired[bool]
    pending: NotRequired[bool]
    silent: NotRequired[bool]
    agreement: NotRequired[float]


class ToolCallEntry(TypedDict):
    """A call of a tool.

    Keys:
        arguments: What the model wrote, if that is not a JSON object.
    """

    name: str
    arguments: dict[str, Any] | str


class ResponseEntry(TypedDict):
    """A response, or a judge's verdict. Keys whose value would be null, false or unknown are left out.

    Keys:
        text: The answer without reasoning; null if there is none.
        role: The role that returned a verdict.
        epoch: From 0; only in runs of several epochs.
        at: In a conversation: number of the messages before it.
        calls: The tools that the model called in it: name and arguments.

    The other keys are the fields of :class:`~pytest_trustllm.types.Response`.
    """

    text: str | None
    role: NotRequired[str]
    epoch: NotRequired[Count]
    number: NotRequired[float]
    error: NotRequired[str]
    raised: NotRequired[bool]
    fatal: NotRequired[bool]
    input_tokens: NotRequired[Count]
    output_tokens: NotRequired[Count]
    finish: NotRequired[str]
    seconds: NotRequired[float]
    revision: NotRequired[str]
    near_tie: NotRequired[bool]
    cached: NotRequired[bool]
    cut: NotRequired[bool]
    pending: NotRequired[bool]
    reasoning: NotRequired[str]
    reasoning_tokens: NotRequired[Count]
    unanswered: NotRequired[str]
    detail: NotRequired[str]
    at: NotRequired[Count]
    calls: NotRequired[list[ToolCallEntry]]


class StoredResponse(TypedDict, total=False):
    """A response in the store: the fields of :class:`~pytest_trustllm.types.Response` that have a value."""

    text: str
    vector: list[float]
    number: float
    input_tokens: Count
    output_tokens: Count
    seconds: float
    finish: str
    revision: str
    near_tie: bool
    reasoning: str
    reasoning_tokens: Count
    unanswered: str
    detail: str
    calls: list[ToolCallEntry]
    trace: ChatEntry


class StoredLine(TypedDict):
    """A line of the store with an answer."""

    key: str
    response: StoredResponse


class BatchStep(TypedDict, total=False):
    """A line of the record of a model's batches: a step of one batch, with the keys of that step alone.

    Keys:
        submitted: Our own name of a batch that is about to be created, with ``requests`` and ``parameters``.
        requests: Name of a request -> place of its parameters' names.
        created: Name of a batch that the server calls ``batch``.
        collected: Name of a batch whose answers are in the file.
        dropped: Name of a batch that does not exist.
        forgotten: Names of requests whose answers nobody could use.
    """

    submitted: str
    requests: dict[str, Count]
    parameters: list[list[str]]
    created: str
    batch: str
    collected: str
    dropped: str
    forgotten: list[str]


class BatchAnswer(TypedDict):
    """A line of the record of a model's batches: what became of a request."""

    key: str
    status: int | None
    body: str
    final: bool
    sent: list[str]


class Transcript(TypedDict, total=False):
    """The texts of a sample.

    Keys:
        prompts: The chats, one per response of an epoch; of a conversation, that before the first response.
        talks: Of a conversation: all its messages, one list per epoch. Besides ``system``, ``user`` and ``assistant``
            the roles are ``tool_call``, whose content is a JSON object with ``name`` and ``arguments``, and ``tool``.
        responses: Responses of the model under test, epoch after epoch, in the order in which they were given.
        verdicts: Replies of judge, classifier, embedder and toxicity model.
        expected: What a right answer looks like, if the scorer knows.
        printed: Output of scorers.
    """

    prompts: list[ChatEntry]
    talks: list[ChatEntry]
    responses: list[ResponseEntry]
    verdicts: list[ResponseEntry]
    expected: str
    printed: str


class SampleLine(Record, Transcript):
    """One line of the samples file. It lacks the texts if the model host ended before it could write them."""


# --- labels of people -------------------------------------------------------------------------------------------------


class DrawnFrom(TypedDict):
    """Which response of which run a label is about.

    Keys:
        run: Id of the run.
        frame: Hash of which responses of the run have which verdict; they were drawn from these.
        role: The role whose verdicts are checked.
        version: Of the task.
        id: Of the sample.
        epoch: From 0.
        fingerprint: Of the sample.
        cluster: Of the sample.
        chance: Probability that the response was drawn, in (0, 1].
    """

    run: str
    frame: str
    task: str
    role: str
    version: int
    id: str
    epoch: Count
    fingerprint: str
    cluster: str
    chance: float


class LabelLine(TypedDict):
    """A line of a file that ``label`` writes. Of several lines about one response the last one counts.

    Keys:
        label: Null: people could not say.
        response: The response; a pair has ``responses``.
        row: Fields of the data row that the judge's question shows.
        by: ``rule`` if nobody had to be asked: there is no response, since the provider blocked the prompt.
    """

    label: str | None
    prompt: str
    drawn: DrawnFrom
    response: NotRequired[str]
    responses: NotRequired[list[str]]
    row: NotRequired[dict[str, Any]]
    by: NotRequired[Literal["rule"]]


# --- the results file -------------------------------------------------------------------------------------------------


class ModelInfo(TypedDict):
    """A model under test, or a model in a role.

    Keys:
        name: Name for people: an alias, or the name that an app gives itself.
        label: Name that ``--trust-model`` gave the app of a fixture, if it differs.
        about: Facts that do not affect answers, such as the number of parameters.

        guard_template: How a guard model is asked.

    Each provider adds what identifies its models: revision, data type, chat template, address.
    """

    name: str
    label: NotRequired[str]
    provider: NotRequired[str]
    id: NotRequired[str]
    revision: NotRequired[str | None]
    kind: NotRequired[str]
    about: NotRequired[dict[str, Any]]
    guard_template: NotRequired[str]


class DataEntry(TypedDict):
    """The data of a run.

    Keys:
        source: ``sample``, ``full``, or the path from which the data set was read.
        files: File -> SHA-256.
    """

    source: str
    files: dict[str, str]


class GenerationEntry(TypedDict):
    """How a task's answers were generated, unless the models file overrides it."""

    temperature: float
    max_new_tokens: int
    stop: list[str]


class DefinitionEntry(TypedDict):
    """What a task's numbers depend on apart from the model: part -> hash."""

    hashes: dict[str, str]


class ShardEntry(TypedDict):
    """Which part of a run this is.

    Keys:
        index: Number of the shard, from 1.
        count: Number of shards.
        of: Task -> samples of all shards together.
    """

    index: Count
    count: Count
    of: dict[str, Count]


class MergedEntry(TypedDict):
    """One shard of a merged run."""

    id: str
    shard: str


class EstimatedCost(TypedDict):
    """What the models under test were estimated to need before the first request.

    Keys:
        usd_at_most: Null: a model has no price.
    """

    requests: Count
    input_tokens: Count
    output_tokens_at_most: Count
    usd_at_most: float | None


class BudgetEntry(TypedDict):
    """What the run might spend and what it spent.

    Keys:
        given: ``usd``, ``tokens`` or ``seconds`` -> limit.
        spent: The same kinds -> amount; null: what was requested has no price.
        reached: Which limit ended the run early; null: none.
        cut: Samples that were left for another run.
    """

    given: dict[str, float]
    spent: dict[str, float | None]
    estimate: EstimatedCost | None
    reached: str | None
    cut: Count


class DecisionEntry(TypedDict):
    """How a gate was decided before all of its samples were asked.

    Keys:
        rule: ``exact``: no further answer could change the verdict; ``alpha``: evidence, which may be wrong.
        limits: Between which numbers the judged reading would end if all samples were asked; null if unknown.
        confidence: Of the limits; 1 if they are certain.
        asked: Samples of the gate's tasks that the verdict rests on, of ``planned``.
        min_scored: Share of the samples that the gate required a score of.
        course: Samples asked, and the lower and upper limit at that time, at a few moments until the decision.
        helped: The baseline helped to find the limits; the number beside them is that of the answers alone.
    """

    outcome: Literal["passed", "failed"]
    rule: StopRule
    limits: LimitsEntry | None
    confidence: float
    asked: Count
    planned: Count
    min_scored: float
    course: list[Annotated[list[float], Length(3)]]
    helped: NotRequired[bool]


class StoppedTaskEntry(TypedDict):
    """A task of which some samples were not asked, because no gate needed them.

    Keys:
        unneeded: How many of its samples were not asked.
        rule: By which its gates were decided; ``exact`` too if no gate is about it.
        limits: Metric -> limits of its final value, and their confidence.
        planned: Metric or sub-metric -> planned samples that it is about.
        assisted: As ``limits``, with the baseline's help; only of metrics that it helps.
    """

    unneeded: Count
    rule: StopRule
    limits: dict[str, Annotated[list[float], Length(3)]]
    planned: dict[str, Count]
    assisted: NotRequired[dict[str, list[float]]]


class StopEntry(TypedDict):
    """When the run stopped asking, and what that came to.

    Keys:
        rule: ``alpha`` if any gate could be decided by evidence.
        alpha: Probability that any verdict differs from that of a run of all samples; null with ``exact``.
        ungated: Tasks that no gate is about were not asked.
        asked: Samples that were asked, of ``planned``.
        decided: Gates that were decided early, of ``gates``.
        shares: Gate -> its share of alpha.
        whole: Gate -> why it needed all of its samples.
        tasks: Task -> what was not asked of it.
    """

    rule: StopRule
    alpha: float | None
    ungated: bool
    asked: Count
    planned: Count
    decided: Count
    gates: Count
    shares: dict[str, float]
    whole: dict[str, str]
    tasks: dict[str, StoppedTaskEntry]


class PendingBatch(TypedDict):
    """A batch with requests of the run that are not answered.

    Keys:
        role: Whose requests they are; null: those of the model under test.
        id: The server's name of the batch; null: the requests are not submitted yet.
        requests: How many.
    """

    role: str | None
    id: str | None
    requests: Count


class UnansweredBatch(TypedDict):
    """A batch that was over and did not answer all of its requests.

    Keys:
        role: Whose requests they are; null: those of the model under test.
        id: The server's name of the batch.
        requests: How many it had.
        answered: About how many of them it said something.
        reason: What the server says about the batch.
        again: How many of them this run submitted again.
        attempt: How often these are in a batch then; 0 if there are none.
    """

    role: str | None
    id: str
    requests: Count
    answered: Count
    reason: str
    again: Count
    attempt: Count


class BatchesEntry(TypedDict):
    """What the run left in batches.

    Keys:
        mode: ``submit`` or ``wait``; null: earlier runs left it.
        samples: Samples without a score for that reason.
        pending: The batches.
        asked_directly: The same for requests that are in an open batch and were sent directly all the same.
        unanswered: Batches that this run collected, and that lacked answers; left out if there are none.
    """

    mode: Literal["submit", "wait"] | None
    samples: Count
    pending: list[PendingBatch]
    asked_directly: list[PendingBatch]
    unanswered: NotRequired[list[UnansweredBatch]]


class CommitEntry(TypedDict):
    """The commit of the project's repository that was checked out.

    Keys:
        branch: Null on a detached head that no CI service names a branch for.
        changed: Files under version control differed from the commit; null if that could not be found out.
    """

    id: str
    branch: str | None
    changed: bool | None


class AuditEntry(TypedDict):
    """The saved run that was tested.

    Keys:
        run: Its id.
        file: Its results file.
        sha256: Of that file.
        replayed: How many of its samples were to be asked again; the seed drew them.
    """

    run: str
    file: str
    sha256: str
    replayed: Count


class RunEntry(TypedDict):
    """What identifies the run, and everything that could change a number of it.

    Keys:
        started: Start of the run, in ISO 8601.
        seconds: Duration of the run.
        selection: ``partial`` if samples of any task were left out.
        limit: Value of ``--trust-limit``, which draws that many samples of each task at random; null without it.
        blocked: What a prompt that the provider blocked counts as, in tasks that score refusals.
        tasks: Task -> hashes of its definition.
        nodes: Task -> pytest node id of its samples, with ``{}`` for the sample's id.
        bundled: Task -> whether its items are those that come with the package.
        data_files: Task -> the file among ``data.files`` that has its rows.
        licences: Dimension -> data set -> licence.
        task_licences: Task -> licence of its rows, ``own items`` or ``not stated``.
        rubrics: Task -> what its judge was told, as a template; only with a judge.
        tags: Task -> what its evidence belongs to, as its suite says; without tasks that have no tags.
        unlicensed: The same of the tasks that ``--trust-licences`` left out.
        stopped: The run ended before its last sample.
        stop: Only in a run that stopped asking once gates were decided.
        suites: Values of ``--trust-suite``.
        thresholds: Threshold file, or one that such a file extends -> SHA-256.
        commit: Only for a project in a Git repository.
        extra: What the hook ``pytest_trustllm_results`` added.
    """

    id: str
    started: str
    seconds: float
    model: ModelInfo
    seed: int
    epochs: Count
    plugin_version: str
    data: DataEntry
    roles: dict[str, ModelInfo]
    generation: dict[str, GenerationEntry]
    task_versions: dict[str, int]
    selection: Literal["full", "partial"]
    limit: NotRequired[Count | None]
    python: NotRequired[str]
    platform: NotRequired[str]
    cpus: NotRequired[int | None]
    packages: NotRequired[dict[str, str]]
    judge_votes: NotRequired[Count]
    blocked: NotRequired[Literal["refusal", "unscored"]]
    judge_checks: NotRequired[list["JudgeCheckEntry"]]
    tasks: NotRequired[dict[str, DefinitionEntry]]
    budget: NotRequired[BudgetEntry]
    stop: NotRequired[StopEntry]
    batches: NotRequired[BatchesEntry]
    audit: NotRequired[AuditEntry]
    shard: NotRequired[ShardEntry]
    merged: NotRequired[list[MergedEntry]]
    nodes: NotRequired[dict[str, str]]
    bundled: NotRequired[dict[str, bool]]
    data_files: NotRequired[dict[str, str]]
    licences: NotRequired[dict[str, dict[str, str]]]
    task_licences: NotRequired[dict[str, str]]
    unlicensed: NotRequired[dict[str, str]]
    rubrics: NotRequired[dict[str, str]]
    tags: NotRequired[dict[str, list[str]]]
    stopped: NotRequired[bool]
    suites: NotRequired[list[str]]
    builtin_suites: NotRequired[bool]
    installed_suites: NotRequired[list[str]]
    command: NotRequired[list[str]]
    thresholds: NotRequired[dict[str, str]]
    commit: NotRequired[CommitEntry]
    extra: NotRequired[dict[str, Any]]


class EstimateEntry(TypedDict):
    """A number estimated from a sample: null, with a reason, if the sample does not determine it."""

    value: float | None
    ci: LimitsEntry | None
    n: Count
    reason: NotRequired[str]


class CheckedTask(TypedDict):
    """The task that a check of a judge is about."""

    id: str
    version: int


class GivenLabel(TypedDict):
    """A label that people gave to a response of a run.

    Keys:
        id: Of the sample.
        epoch: From 0.
        response: Hash of the response.
        label: 1 if people count it, else 0.
    """

    id: str
    epoch: Count
    response: str
    label: float


class DrawnLabels(TypedDict):
    """Labels on responses that were drawn from a run: the share that people would count is estimated from them.

    Keys:
        run: Id of the run.
        frame: Hash of which responses of the run have which verdict; they were drawn from these.
        responses: How many that are.
        data: Data file of the task -> SHA-256.
        undecided: Responses that people could not label.
    """

    run: str
    frame: str
    responses: Count
    data: dict[str, str]
    undecided: Count
    labels: list[GivenLabel]


class JudgeCheckEntry(TypedDict):
    """How well a judge or classifier agreed with people: the part of a ``judge-check`` file that the results keep.

    Keys:
        task: The task whose verdicts were checked; null for a refusal classifier, which serves many tasks.
        positive: The label whose rate is corrected.
        definition: Part of the task's definition that a verdict depends on -> hash.
        votes: How often the judge was asked for every verdict; without it once.
        drawn: Only if the labels are of responses that were drawn from a run.
    """

    role: str
    model: ModelInfo
    task: CheckedTask | None
    labels: dict[str, Any]
    rows: Count
    compared: Count
    positive: str
    confidence: float
    sensitivity: EstimateEntry
    specificity: EstimateEntry
    kappa: EstimateEntry
    definition: NotRequired[dict[str, str]]
    votes: NotRequired[Count]
    drawn: NotRequired[DrawnLabels]


class CorrectedEntry(TypedDict):
    """A rate, corrected for the mistakes of the judge or classifier that counted it.

    Keys:
        reason: Why there is no value, or no interval.
        labels: How many responses of this run people labelled; only with prediction-powered inference.
        power: How much a verdict counts in it, in [0, 1]: 1 for a perfect judge, 0 for one that guesses.
        labels_unused: Why labels on responses of this run tell only how often the judge errs.
        by_rule: How many responses were counted by a rule, so that nothing was corrected about them.
        rogan_gladen: The same rate by the other method, for comparison.
    """

    value: float | None
    ci: LimitsEntry | None
    confidence: float
    method: str
    reason: NotRequired[str]
    labels: NotRequired[Count]
    power: NotRequired[float]
    labels_unused: NotRequired[str]
    by_rule: NotRequired[Count]
    rogan_gladen: NotRequired["CorrectedEntry"]


class AssistedEntry(TypedDict):
    """The value that all samples would give, estimated from a part of them with the help of the baseline.

    Keys:
        value: The estimate; null, with a ``reason``, if the baseline does not help and the plain value is used.
        ci: Interval of the value that all samples would give.
        shared: Samples with a score in both runs, ``of`` those that have one in the baseline.
        weight: Of the baseline; with 1 the estimate is its value plus the change of the shared samples.
        flips: Share of the shared samples that flipped; for other numbers than 0 and 1, mean square of the changes.
        most_flips: From so many flips on, a baseline is no help.
        worth: How many answers without a baseline would be as precise.
    """

    value: float | None
    ci: LimitsEntry | None
    confidence: float | None
    method: str | None
    shared: Count
    of: Count
    weight: float | None
    flips: float | None
    most_flips: float | None
    worth: float | None
    reason: NotRequired[str]


class RankEntry(TypedDict):
    """The rank among the published models; 1 is the best."""

    position: Count
    of: Count


class MetricEntry(TypedDict):
    """One metric.

    Keys:
        value: Corrected reading; null if no sample could be used.
        parity: The authors' toolkit's reading of the same responses.
        ci: Interval of ``value``, computed by ``method``.
        expected: Samples that the metric is about; the sum of ``scored`` and ``unscored``.
        range: Least and greatest possible value.
        asked: Samples that were asked, of ``planned``.
        stopped: Why not all were: no gate needed more, for certain (``exact``) or by evidence (``alpha``). The
            interval is then that of the value that all samples would have given.
        rank: Rank among the published models; only for a run over all of the published data.
        estimate: Only with a baseline, for a part of the samples: which estimate of the value that all samples would
            give is the better one, ``assisted`` or the plain ``value``.
        problem: Why there is no value although samples have scores; absent where there is no such reason.
    """

    value: float | None
    parity: float | None
    ci: LimitsEntry | None
    confidence: float | None
    expected: Count
    scored: Count
    unscored: Count
    higher_is_better: bool
    method: str | None
    range: LimitsEntry
    asked: NotRequired[Count]
    planned: NotRequired[Count]
    stopped: NotRequired[StopRule | None]
    rank: NotRequired[RankEntry]
    judge_corrected: NotRequired[CorrectedEntry]
    estimate: NotRequired[Literal["baseline-assisted", "plain"]]
    assisted: NotRequired[AssistedEntry]
    problem: NotRequired[str]


class ScoresEntry(TypedDict):
    """The trust score of a dimension.

    Keys:
        of: Headline metrics whose mean it is.
        missing: Headline metrics without a value.
        own: The project's own metrics in a score that also has shipped ones.
    """

    value: float | None
    of: list[str]
    ci: LimitsEntry | None
    confidence: float | None
    method: str | None
    missing: list[str]
    own: NotRequired[list[str]]


class PowerEntry(TypedDict):
    """What a gate can see.

    Keys:
        source: What tells how the number varies from run to run: the ``epochs`` of the run, the ``binomial``
            distribution of a share, or the ``interval`` of any other number.
        samples: Of the run to come.
        another_verdict: Probability that an identical run gets another verdict.
        drop: The least loss that turns the gate red in 80 % of runs; null if none does.
        samples_more: How many samples would see the same loss in 95 % of runs; null if unknown.
        epochs_more: How many epochs of the same samples would; null unless epochs are the source.
    """

    source: str
    samples: Count
    another_verdict: float
    drop: float | None
    samples_more: Count | None
    epochs_more: Count | None


class GateEntry(TypedDict):
    """The verdict of one gate.

    Keys:
        id: ``file::metric[kind]``.
        kind: ``at_least``, ``at_most`` or ``max_drop``.
        metric: Id of the metric, or ``dimension/score``.
        further: How many more samples would decide an inconclusive gate if its number stayed as it is.
        warn: It did not pass and only warns; ``only_warns``: it never does more than warn.
        lacking: Samples that the gate requires a score of and that have none.
        before: The baseline's number over the shared samples; ``now``: this run's.
        p_worse: Probability of a drop of this size or more between equal models.
        failed_before: Its samples are those that failed in the run before (``--lf``).
        early: How it was decided before all of its samples were asked.
        power: How stable its verdict is, and how large a loss it sees.
    """

    id: str
    outcome: GateOutcome
    value: float | None
    bound: float
    reason: str
    kind: str
    metric: str
    scoring: GateScoring
    line: int | None
    confidence: float | None
    ci: LimitsEntry | None
    method: str | None
    further: Count | None
    warn: bool
    only_warns: NotRequired[bool]
    lacking: NotRequired[Count]
    before: NotRequired[float | None]
    now: NotRequired[float | None]
    shared: NotRequired[Count]
    scored: NotRequired[Count]
    p_worse: NotRequired[float | None]
    test: NotRequired[str | None]
    failed_before: NotRequired[bool]
    early: NotRequired[DecisionEntry]
    power: NotRequired[PowerEntry]


class UsageEntry(TypedDict):
    """Requests to a model, and what they cost; null where the server did not report it.

    Keys:
        batched: Those of the requests that were answered in a batch; they cost half the price.
    """

    requests: Count
    cached: Count
    failed: NotRequired[Count]
    input_tokens: Count | None
    output_tokens: Count | None
    reasoning_tokens: NotRequired[Count | None]
    near_ties: NotRequired[Count]
    seconds: float
    cost_usd: NotRequired[float | None]
    batched: NotRequired[Count]
    roles: NotRequired[dict[str, "UsageEntry"]]


class CoverageEntry(TypedDict):
    """What became of every sample of a task.

    ``expected = collected + deselected``, and ``collected = scored + unscored + errored + not_applicable + lost +
    unneeded``; the last is absent where it is 0.
    """

    expected: Count
    collected: Count
    deselected: Count
    scored: Count
    unscored: Count
    errored: Count
    not_applicable: Count
    lost: Count
    unneeded: NotRequired[Count]
    blocked: NotRequired[Count]


class PairingEntry(TypedDict):
    """Which samples of a task both runs have."""

    shared: Count
    changed: list[str]
    added: list[str]
    removed: list[str]


class FlippedEntry(TypedDict):
    """Samples whose target was met in one run and missed in the other."""

    worse: list[str]
    better: list[str]


class ScoredOnceEntry(TypedDict):
    """Samples that have a score in one run alone: ``lost`` in the baseline, ``gained`` in this run."""

    lost: list[str]
    gained: list[str]


class DifferenceEntry(TypedDict):
    """A number in two runs, over the samples that both have a score for.

    Keys:
        difference: ``new`` minus ``old``.
        worse_by: How much the number got worse, in its own direction; negative if it got better.
        ci: Interval of ``difference``.
        p_worse: Probability of such a loss, or a greater one, between equal models.
        test: How ``p_worse`` was found.
    """

    old: float
    new: float
    difference: float
    worse_by: float
    ci: LimitsEntry | None
    confidence: float
    p_worse: float | None
    test: str | None
    shared: Count


class BaselineEntry(TypedDict):
    """The comparison with an earlier run.

    Keys:
        run: Id of the earlier run.
        warnings: What else differs between the runs and may change a number.
        tasks: Task -> which samples the runs share.
        scored_once: Shared samples that have a score in one of the runs alone; absent if there are none.
        differences: Metric, or ``dimension/score`` -> its numbers over the shared samples.
    """

    file: str
    model: str
    started: str
    tasks: dict[str, PairingEntry]
    flipped: FlippedEntry
    scored_once: NotRequired[ScoredOnceEntry]
    run: str | None
    warnings: list[str]
    differences: dict[str, DifferenceEntry]


class BaseModelEntry(TypedDict):
    """The comparison with the bare model behind the app, which was asked the same samples.

    Keys:
        file: Name of its results file in the same directory; null if none was written.
        differences: Metric, or ``dimension/score`` -> its numbers over the samples that both have a score for: ``old``
            is the bare model's, ``new`` the app's.
    """

    file: str | None
    model: ModelInfo
    usage: UsageEntry
    differences: dict[str, DifferenceEntry]


class UnjudgedEntry(TypedDict):
    """What no gate judged.

    Keys:
        tasks: Tasks of the run without a gate; ``of``: the number of all tasks of the run.
        gates: Gates that tags, options, paths or hooks left out.
        models: Names of models in threshold files that may be misspelt.
        unwritten: The project's directory of threshold files, if it holds none.
    """

    tasks: list[str]
    of: Count
    gates: list[str]
    models: NotRequired[list[str]]
    unwritten: NotRequired[str]


class UnstableEntry(TypedDict):
    """A sample whose epochs disagree.

    Keys:
        met: Epochs that met the target.
    """

    id: str
    met: Count
    epochs: Count
    flip_rate: float


StabilityTask = TypedDict(  # the functional form, as "pass^k" is not a name
    "StabilityTask",
    {"samples": Count, "flip_rate": float, "pass^k": dict[str, float], "unstable": list[UnstableEntry]},
)
StabilityTask.__doc__ = """How much the answers of one task vary.

Keys:
    samples: Samples with a score in every epoch.
    flip_rate: How likely two epochs of a sample disagree, averaged over the samples.
    pass^k: k -> probability that k tries of a sample all meet the target.
    unstable: The samples that vary most.
"""


class StabilityEntry(TypedDict):
    """How much answers vary over the epochs of a run.

    Keys:
        tasks: Task -> how much its answers vary; only tasks with samples that have a score in every epoch.
    """

    epochs: Count
    tasks: dict[str, StabilityTask]


class JudgingEntry(TypedDict):
    """How far a judge that votes several times agrees with itself.

    Keys:
        samples: Samples that were put to a vote.
        agreement: Mean share of the votes for the verdict that counts, in (0, 1]; null without samples.
        unanimous: Share of the samples whose votes all agree.
    """

    votes: Count
    samples: Count
    agreement: float | None
    unanimous: float | None


class Results(TypedDict):
    """The results file (schema ``pytest-trustllm/results/1``).

    Keys:
        samples: Name of the samples file in the same directory; null if the run wrote none.
        stability: How much answers vary over epochs; only for runs of several epochs.
        judging: How much a judge's votes vary; only for runs of several votes per verdict.
    """

    schema: Literal["pytest-trustllm/results/1"]
    run: RunEntry
    metrics: dict[str, MetricEntry]
    scores: dict[str, ScoresEntry]
    gates: list[GateEntry]
    usage: UsageEntry
    samples: str | None
    coverage: dict[str, CoverageEntry]
    baseline: NotRequired[BaselineEntry | None]
    base: NotRequired[BaseModelEntry]
    unjudged: NotRequired[UnjudgedEntry]
    stability: NotRequired[StabilityEntry]
    judging: NotRequired[JudgingEntry]


# --- a run in a history -----------------------------------------------------------------------------------------------


class TaskScores(TypedDict):
    """The scores of a task's samples, without texts: four lists of the same length.

    Keys:
        values: Null: unscored.
        clusters: Samples with the same cluster come from one source item; null: a cluster of its own.
    """

    ids: list[str]
    fingerprints: list[str]
    values: list[float | None]
    clusters: list[str | None]


class HistoryEntry(TypedDict):
    """A run as a history keeps it (schema ``pytest-trustllm/history/1``): its numbers, and no text of model or data.

    Keys:
        results: The results document.
        scores: Task -> scores of its samples.
        report: Path of the HTML report, relative to the history's directory; null: the run wrote none.
    """

    schema: Literal["pytest-trustllm/history/1"]
    results: Results
    scores: dict[str, TaskScores]
    report: str | None
