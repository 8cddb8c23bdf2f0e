"""What a model's card claims about metrics, against what a run measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pytest_trustllm.errors import one_line, suggest
from pytest_trustllm.formats import LimitsEntry, Results
from pytest_trustllm.report import formatting
from pytest_trustllm.report.card_numbers import NUMBER, Claim, MetricNames, claims_of
from pytest_trustllm.report.export.hub import DIGEST, TRUSTLLM, DataSet, data_set_of
from pytest_trustllm.suites.model_card import ModelCard

VALUE, PARITY, CORRECTED = "value", "parity", "corrected"
_READINGS = (VALUE, PARITY, CORRECTED)
_SHORTEST_COMMIT = 7
_SHORTEST_DIGEST = 16
Outcome = Literal["confirmed", "contradicted", "unchecked", "not claimed"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run makes of a claim, or of a metric that the card is silent about.

    Attributes:
        metric: Its id; of a claim about no metric of the run, what the card calls it.
        outcome: ``confirmed``, ``contradicted``, ``unchecked`` or ``not claimed``.
        text: One line.
    """

    metric: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """The number of a run that a claim is compared with.

    Attributes:
        value: In the reading of the claim.
        ci: Its interval.
        parity: What the authors' toolkit reads.
        range: What it may be.
    """

    value: float | None
    ci: LimitsEntry | None
    parity: float | None
    range: tuple[float, float]

    @property
    def text(self) -> str:
        """Value and interval."""
        return f"{formatting.number(self.value, self.range)} ({formatting.interval(self.ci, self.range)})"


def verdicts(card: ModelCard, results: Results) -> list[Verdict]:
    """Return a verdict for every claim, then for every headline metric without one."""
    names = MetricNames(results)
    found = [_verdict(claim, names, results) for claim in claims_of(card, results)]
    claimed = {verdict.metric for verdict in found}
    for score in results["scores"].values():
        for id_ in score["of"]:
            if id_ not in claimed:
                found.append(Verdict(id_, "not claimed", "the card is silent"))
    return found


def _verdict(claim: Claim, names: MetricNames, results: Results) -> Verdict:
    id_ = names.id_of(claim.metric)
    if id_ is None:
        unknown = claim.problem or f"this run has no metric of that name{_likely(claim.metric, names, results)}"
        return Verdict(one_line(claim.metric, 100), "unchecked", unknown)
    measured = _measured(claim, id_, results)
    problem = claim.problem or _why_unchecked(claim, id_, measured, names, results)
    if problem is not None:
        return Verdict(id_, "unchecked", problem)
    if claim.reading == PARITY:
        number = formatting.number(measured.parity, measured.range)
        return _rounded(claim, id_, measured.parity, f"the toolkit reads {number}")
    if measured.ci is None:
        number = formatting.number(measured.value, measured.range)
        return _rounded(claim, id_, measured.value, f"measured {number}")
    low, high = measured.ci
    words = f"claimed {one_line(claim.value, 40)}, measured {measured.text}"
    if not low <= _read(claim.value) <= high:
        if claim.reading is None and _rounds_to(measured.parity, claim.value):
            return Verdict(
                id_, "unchecked", f"{words}, but it is what the authors' toolkit reads; write reading: parity"
            )
        return Verdict(id_, "contradicted", words)
    return _if_data_is_named(claim, id_, words)


def _rounded(claim: Claim, id_: str, number: float | None, words: str) -> Verdict:
    """Return what a run makes of a claim about a number without interval: only the number itself is confirmed."""
    words = f"claimed {one_line(claim.value, 40)}, {words}"
    if not _rounds_to(number, claim.value):
        return Verdict(id_, "unchecked", f"{words}, and that reading has no interval")
    return _if_data_is_named(claim, id_, words)


def _if_data_is_named(claim: Claim, id_: str, words: str) -> Verdict:
    if claim.data is None and claim.revision is None:
        return Verdict(id_, "unchecked", f"{words}, but the card does not say on which data")
    return Verdict(id_, "confirmed", words)


def _measured(claim: Claim, id_: str, results: Results) -> _Measured:
    if id_.endswith("/score"):
        score = results["scores"][id_.removesuffix("/score")]
        return _Measured(score["value"], score["ci"], None, (0.0, 1.0))
    metric = results["metrics"][id_]
    range_ = formatting.range_of(metric)
    if claim.reading != CORRECTED:
        return _Measured(metric["value"], metric["ci"], metric["parity"], range_)
    corrected = metric.get("judge_corrected")
    if corrected is None:
        return _Measured(None, None, None, range_)
    return _Measured(corrected["value"], corrected["ci"], None, range_)


def _rounds_to(number: float | None, text: str) -> bool:
    """Return whether a number is the claimed one in as many digits as are claimed."""
    match = NUMBER.fullmatch(text.strip())
    if number is None or match is None:
        return False
    digits = len(match[1].partition(".")[2])
    return round(100 * number if match[2] else number, digits) == round(float(match[1]), digits)


def _likely(name: str, names: MetricNames, results: Results) -> str:
    example = names.example_of(name)
    if example is not None:
        return f" alone; name task and metric, as in {one_line(example, 100)!r}"
    likely, _, _ = suggest(name, list(results["metrics"])).partition(";")  # without the list of all names
    return likely


# --- why a claim cannot be compared -----------------------------------------------------------------------------------


def _why_unchecked(claim: Claim, id_: str, measured: _Measured, names: MetricNames, results: Results) -> str | None:
    """Return why a claim cannot be compared; None if it can."""
    shown = one_line(claim.value, 40)
    other = _why_other_model(claim, names, results) or _why_other_data(claim, id_, results)
    if other is not None:
        return other
    if NUMBER.fullmatch(claim.value.strip()) is None:
        return f"{shown!r} is not a number"
    value = _read(claim.value)
    low, high = measured.range
    if not low <= value <= high:
        hint = f"; write {value / 100:g} or {value:g} %" if low <= value / 100 <= high else ""
        return f"{shown} is outside [{low:g}, {high:g}]{hint}"
    if claim.reading not in (None, *_READINGS):
        return f"it is in the reading {one_line(repr(claim.reading), 40)}; a run has {VALUE}, {PARITY} and {CORRECTED}"
    if measured.value is None:
        return "the run has no value of it"
    return None


def _why_other_model(claim: Claim, names: MetricNames, results: Results) -> str | None:
    """Return that a claim is about another model than the run's; None if it is not, or the card does not say."""
    if claim.model is None or names.is_model(claim.model):
        return None
    own = results["run"]["model"]["name"]
    return f"it is about the model {one_line(repr(claim.model), 80)}, the run about {one_line(repr(own), 80)}"


def _why_other_data(claim: Claim, id_: str, results: Results) -> str | None:
    """Return why the data of a claim and of the run may differ; None if they do not, or the card does not say."""
    own = data_set_of(results, id_)
    if claim.data is not None and claim.data != own.type:
        return f"it is about {one_line(claim.data, 80)}, the run about {own.type}"
    if claim.data_name is not None and not _is_name_of(claim.data_name, own, id_):
        return f"it is about data named {one_line(repr(claim.data_name), 80)}, the run's are named {own.name!r}"
    if claim.part != own.part and (claim.data is not None or claim.part is not None):
        about = "all of the data" if claim.part is None else one_line(claim.part, 80)
        return f"it is about {about}, the run about {own.part or 'all of the data'}"
    if claim.revision is not None:
        return _why_other_revision(claim.revision, own)
    if claim.data is None or own.type == TRUSTLLM:
        return None
    if own.sha256 is None:
        return "the run does not record the SHA-256 of the rows of this task"
    return f"the card does not say which version of its data it is about; write revision: {own.revision}"


def _is_name_of(name: str, own: DataSet, id_: str) -> bool:
    """Return whether a card's name of a data set is one of those that the run's has."""
    task = id_.partition("/")[2].rpartition(".")[0]
    accepted = [own.name, own.type, id_.rpartition(".")[0], task]
    if own.type == TRUSTLLM:
        accepted += ["TrustLLM", TRUSTLLM.partition("/")[2]]
    return _letters(name) in {_letters(each) for each in accepted}


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _why_other_revision(claimed: str, own: DataSet) -> str | None:
    """Return why the data of a claim and of the run may be of different versions; None if they are of the same."""
    shown = one_line(claimed, 80)
    if claimed.startswith(DIGEST):
        digest = claimed.removeprefix(DIGEST).lower()
        if own.sha256 is None:
            return "the run does not record the SHA-256 of the rows of this task"
        if len(digest) >= _SHORTEST_DIGEST and own.sha256.startswith(digest):
            return None
        return f"it is about data with {shown}, the run about {DIGEST}{own.sha256}"
    if own.type != TRUSTLLM:
        return f"it is about revision {shown} of the data; those of the run have {own.revision or 'none'}"
    from pytest_trustllm.suites.full_data import published_data  # it imports an HTTP client, which is seldom needed

    commit = published_data().commit
    if len(claimed) >= _SHORTEST_COMMIT and commit.startswith(claimed):
        return None
    return f"it is about revision {shown} of the data, the run about {commit}"


def _read(text: str) -> float:
    """Return a number; one in per cent as a share."""
    match = NUMBER.fullmatch(text.strip())
    assert match is not None  # noqa: S101 - the caller looked
    number = float(match[1])
    return number / 100 if match[2] else number
