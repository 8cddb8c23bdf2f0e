"""The results document, arranged the way the page shows it: every choice of words that needs a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import MetricEntry, Results, ScoresEntry, StabilityTask
from pytest_trustllm.report.formatting import (
    Change,
    Strip,
    change_of,
    interval,
    items_link,
    number,
    range_of,
    strip,
    task_of,
    trail,
)
from pytest_trustllm.report.page import leaderboard
from pytest_trustllm.report.page.other_runs import OtherRun
from pytest_trustllm.report.page.sample_data import STATUSES, Packed
from pytest_trustllm.report.words import Words, references_of, words_of, words_of_dimension

_LONGEST_DRAWN = 2  # shares and correlations are drawn on a line; a count of samples is not


@dataclass(frozen=True, slots=True)
class MetricLine:
    """A line of a dimension's table.

    Attributes:
        assisted: What all samples would give by the baseline's help, and its interval; empty without such an estimate.
        words: What it says in plain words, and the harm that a bad value stands for; None for a project's own metric.
    """

    label: str
    value: float | None
    parity: float | None
    interval: str
    how: str
    scored: int
    expected: int
    higher_is_better: bool
    range: tuple[float, float]
    place: str
    change: Change | None
    trail: Sequence[tuple[float, float]]
    strip: Strip | None
    link: str
    assisted: str = ""
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension's line in the overview and its section.

    Attributes:
        name: Such as ``safety``.
        score: The trust score.
        interval: Its interval, in words; empty if there is none.
        how: Confidence and method of the interval.
        formula: How it is computed, with the numbers.
        used: Headline metrics with a value.
        place: Place among the published models on the metrics that both have; empty if there is none, and unless the
            run covers the whole data set.
        change: Since the run that this one is compared with, over the samples that both have.
        trail: The scores of all runs of the page, as a sparkline.
        strip: Score, interval and published models on a line.
        headlines: The metrics that the score is the mean of.
        others: Further metrics and sub-metrics.
        counts: (Status, samples), without zeros.
        link: Address of its items.
        published: The published models have some of its metrics; without them, a parity reading tells nothing.
        placed: Some of its metrics have a place.
        words: What it is about in plain words; None for a project's own dimension.
        tags: (Tag, what it is, address of its items), of the lists of risks and of the suites.
    """

    name: str
    score: float | None
    interval: str
    how: str
    formula: str
    used: int
    place: str
    change: Change | None
    trail: Sequence[tuple[float, float]]
    strip: Strip
    headlines: Sequence[MetricLine]
    others: Sequence[MetricLine]
    counts: Sequence[tuple[str, int]]
    link: str
    published: bool
    placed: bool
    words: Words | None
    tags: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Stability:
    """How much the answers to the same question vary.

    Attributes:
        task: ``dimension/task``.
        samples: Samples with a score in every epoch.
        flip_rate: How likely two epochs of a sample disagree.
        all_of: (k, probability that k tries all meet the target).
        unstable: (Sample, epochs that met the target, epochs, its address), those that vary most.
        link: Address of its items.
    """

    task: str
    samples: int
    flip_rate: float
    all_of: Sequence[tuple[str, float]]
    unstable: Sequence[tuple[str, int, int, str]]
    link: str


def tasks_of(results: Results) -> list[str]:
    """Return the tasks in the order of the results."""
    return list(dict.fromkeys(map(task_of, results["metrics"])))


def dimensions_of(results: Results, packed: Packed, others: Sequence[OtherRun] = ()) -> list[Dimension]:
    """Return the dimensions that had samples, beside those of other runs."""
    return [_dimension(name, results, packed, others) for name in results["scores"]]


def _dimension(name: str, results: Results, packed: Packed, others: Sequence[OtherRun]) -> Dimension:
    score = results["scores"][name]
    metrics = {id_: metric for id_, metric in results["metrics"].items() if id_.startswith(f"{name}/")}
    headlines, further = [], []
    for id_, metric in metrics.items():
        line = _metric(id_, metric, others)
        if id_ in score["of"] or id_ in score["missing"]:
            headlines.append(line)
        else:
            further.append(line)
    board = leaderboard.dimension(results["metrics"], score["of"])
    change = _change(f"{name}/score", others)
    values = [*(other.scores.get(name) for other in others), score["value"]]
    return Dimension(
        name=one_line(name, 60),
        score=score["value"],
        interval=interval(score["ci"]),
        how=_how(score),
        formula=_formula(score, metrics),
        used=len(score["of"]),
        place=_board_place(board, metrics),
        change=change,
        trail=_trail(values, change),
        strip=strip(score["value"], score["ci"], (0.0, 1.0), ticks=() if board is None else board.others),
        headlines=headlines,
        others=further,
        counts=_counts(name, packed),
        link=items_link(name),
        published=any(leaderboard.values(id_) for id_ in metrics),
        placed=any("rank" in metric for metric in metrics.values()),
        words=words_of_dimension(name),
        tags=_tags(name, results),
    )


def _tags(dimension: str, results: Results) -> list[tuple[str, str, str]]:
    titles = {}
    for reference in references_of(dimension):
        titles[reference.tag] = f"{reference.title} ({reference.source})"
    own = {task: tags for task, tags in results["run"].get("tags", {}).items() if task.startswith(f"{dimension}/")}
    for tags in own.values():
        for tag in tags:
            titles.setdefault(tag, "tag of the suite")
    return [(one_line(tag, 60), title, items_link(dimension, tag=tag)) for tag, title in titles.items()]


def _counts(dimension: str, packed: Packed) -> list[tuple[str, int]]:
    """Return the statuses of a dimension's samples with how often they occur, without zeros."""
    sums: Counter[str] = Counter()
    for task, counts in packed.counts.items():
        if task.startswith(f"{dimension}/"):
            sums.update(counts)
    return [(status, sums[status]) for status in STATUSES if sums[status]]


def stability_of(results: Results) -> list[Stability]:
    """Return how much answers vary, the tasks that vary most first; empty if the run had one epoch."""
    stability = results.get("stability")
    if stability is None:
        return []
    lines = [_stability(task, entry) for task, entry in stability["tasks"].items()]
    return sorted(lines, key=lambda line: (-line.flip_rate, line.task))


def _stability(task: str, entry: StabilityTask) -> Stability:
    unstable = []
    for sample in entry["unstable"]:
        link = items_link(item=f"{task}/{sample['id']}")
        unstable.append((one_line(sample["id"], 20), sample["met"], sample["epochs"], link))
    return Stability(
        task=one_line(task, 120),
        samples=entry["samples"],
        flip_rate=entry["flip_rate"],
        all_of=[(one_line(tries, 8), share) for tries, share in entry["pass^k"].items()],
        unstable=unstable,
        link=items_link(task),
    )


def _how(entry: MetricEntry | ScoresEntry) -> str:
    """Return how an interval was made; a number without one has no use for it."""
    words = "interval"
    if entry["confidence"] is not None:
        words = f"{100 * entry['confidence']:.4g} % interval"
    if entry["method"]:
        words += f", {entry['method']}"
    return one_line(words, 200)


def _place(position: int, of: int) -> str:
    return f"{position} of {of}"


def _board_place(board: leaderboard.Board | None, metrics: Mapping[str, MetricEntry]) -> str:
    """Return a dimension's place; empty unless each of its metrics has one, which takes the whole data set."""
    if board is None or any("rank" not in metrics[id_] for id_ in board.metrics):
        return ""
    return _place(board.place, len(board.others) + 1)


def _change(id_: str, others: Sequence[OtherRun]) -> Change | None:
    """Return the change of a metric, or of ``dimension/score``, since the first other run."""
    if not others:
        return None
    return change_of(others[0].differences.get(id_))


def _trail(values: Sequence[float | None], change: Change | None) -> list[tuple[float, float]]:
    """Return a sparkline: of two runs over the samples that both have, of more over all samples of each."""
    if change is None:
        return []
    return trail([change.old, change.new] if len(values) == 2 else values)


def _metric(id_: str, metric: MetricEntry, others: Sequence[OtherRun]) -> MetricLine:
    range_ = range_of(metric)
    low, high = range_
    drawn = None
    if high - low <= _LONGEST_DRAWN:
        drawn = strip(metric["value"], metric["ci"], range_, ticks=leaderboard.values(id_))
    change = _change(id_, others)
    values = [*(other.metrics.get(id_) for other in others), metric["value"]]
    return MetricLine(
        label=_label(id_),
        value=metric["value"],
        parity=metric["parity"],
        interval=interval(metric["ci"], range_),
        how=_how(metric),
        scored=metric["scored"],
        expected=metric["expected"],
        higher_is_better=metric["higher_is_better"],
        range=range_,
        place=_place(metric["rank"]["position"], metric["rank"]["of"]) if "rank" in metric else "",
        change=change,
        trail=_trail(values, change),
        strip=drawn,
        link=items_link(task_of(id_)),
        assisted=_assisted(metric, range_),
        words=words_of(id_),
    )


def _assisted(metric: MetricEntry, range_: tuple[float, float]) -> str:
    assisted = metric.get("assisted")
    if assisted is None or assisted["value"] is None:
        return ""
    return f"{number(assisted['value'], range_)} ({interval(assisted['ci'], range_)})"


def _label(metric: str) -> str:
    """Return a metric's id without its dimension."""
    return one_line(metric.partition("/")[2])


def _formula(score: ScoresEntry, metrics: Mapping[str, MetricEntry]) -> str:
    without = ""
    if score["missing"]:
        names = ", ".join(map(_label, score["missing"]))
        without = f" Without a value and left out: {names}."
    if not score["of"]:
        return f"No headline metric has a value, so there is no trust score.{without}"
    terms = []
    for id_ in score["of"]:
        value = number(metrics[id_]["value"])
        if not metrics[id_]["higher_is_better"]:
            value = f"1\u00a0−\u00a0{value}"
        terms.append(f"{_label(id_)} ({value})")
    return f"Mean of the headline metrics, each between 0 and 1, higher is better: {', '.join(terms)}.{without}"
