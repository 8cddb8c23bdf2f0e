"""From prompt to score: what is asked, in which order, and what becomes of everything that can go wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pytest_trustllm.engine.engine import Engine
from pytest_trustllm.engine.runner import Runner, seed_of
from pytest_trustllm.engine.sample_outcome import SampleOutcome, dump
from pytest_trustllm.engine.votes import majority
from pytest_trustllm.errors import ScorerError
from pytest_trustllm.scorers.refusal import Refusal
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import BLOCKED, REASONING_CUT, Generation, Question, Request, Response, Sample, Score

Answer = Callable[[Request], Response | str | None]
SAMPLE = Sample("d/t", "0003", ({"prompt": "p"},), ((("user", "p"),),), (("d/f.json", 3),), {"kind": "a"}, "f" * 32)
PAIR = dataclasses.replace(SAMPLE, prompts=((("user", "one"),), (("user", "two"),)), origins=(("f", 1), ("f", 2)))


class Scripted:
    """A model that answers from a function; notes what it was asked."""

    stored = False
    max_concurrency = 4

    def __init__(self, answer: Answer) -> None:
        self.info: Mapping[str, Any] = {"provider": "scripted", "id": "scripted"}
        self.asked: list[Request] = []
        self._answer = answer

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        found = self._answer(request)
        return found if isinstance(found, Response) else Response(text=found)

    async def close(self) -> None:
        pass


class Scores:
    """A scorer made of a function."""

    roles = ("judge", "refusal")

    def __init__(self, score: Callable[[Sample, Sequence[Response]], Any]) -> None:
        self.score = score


def task(score: Callable[..., Any], name: str = "t") -> Task:
    return Task(
        suite="d", dimension="d", name=name, version=1, title="T", data=DataSpec(), prompt=None, messages=None,
        generation=Generation(temperature=0.5, max_new_tokens=9), scorer=Scores(score), scorer_name="mine",
        metrics=(), group={},
    )  # fmt: skip


def right(sample: Sample, replies: Sequence[Response]) -> Score:
    return Score(1.0, True, replies[-1].text)


def run(
    score: Callable[..., Any],
    target: Scripted | None = None,
    sample: Sample = SAMPLE,
    readers: Sequence[Task] = (),
    seed: int = 0,
    **roles: Scripted,
) -> SampleOutcome:
    async def go() -> SampleOutcome:
        engines = {role: Engine(model, None) for role, model in roles.items()}
        runner = Runner(Engine(target or Scripted(lambda r: r.text), None), engines, seed)
        return await runner.run(task(score), sample, readers)

    outcome = asyncio.run(go())
    json.loads(dump(outcome.record))
    json.loads(dump(outcome.transcript))
    return outcome


@pytest.mark.parametrize("reader", [False, True])
def test_a_row_that_a_scorer_refuses_is_not_asked(reader: bool) -> None:
    class Picky(Scores):
        def check_sample(self, sample: Sample) -> None:
            raise ScorerError(f"{sample.task}[{sample.id}]: the row's 'label' is null")

    async def go(target: Scripted) -> SampleOutcome:
        picky = dataclasses.replace(task(right), scorer=Picky(right))
        first, readers = (task(right), [picky]) if reader else (picky, [])
        return await Runner(Engine(target, None), {}, 0).run(first, SAMPLE, readers)

    target = Scripted(lambda r: "yes")
    with pytest.raises(ScorerError, match=r"^d/t\[0003\]: the row's 'label' is null$"):
        asyncio.run(go(target))
    assert target.asked == []


def test_a_sample_is_asked_and_scored() -> None:
    target = Scripted(lambda r: "yes")
    outcome = run(right, target)
    (request,) = target.asked
    assert request.messages == (("user", "p"),)
    assert request.generation == Generation(temperature=0.5, max_new_tokens=9)
    assert request.origin == ("d/f.json", 3)
    assert (outcome.status, outcome.fatal) == ("passed", False)
    assert outcome.record["value"] == 1.0
    assert outcome.record["answer"] == "yes"
    assert outcome.record["group"] == {"kind": "a"}
    assert outcome.record["fingerprint"] == SAMPLE.fingerprint
    assert outcome.transcript["prompts"] == [[["user", "p"]]]
    assert outcome.transcript["responses"][0]["text"] == "yes"


def test_a_pair_is_asked_both_prompts_with_seeds_of_their_own() -> None:
    target = Scripted(lambda r: r.text.upper())
    outcome = run(lambda s, replies: Score(1.0, answer="|".join(str(r.text) for r in replies)), target, PAIR)
    assert outcome.record["answer"] == "ONE|TWO"
    assert len({r.seed for r in target.asked}) == 2
    assert {r.origin for r in target.asked} == {("f", 1), ("f", 2)}


def test_a_seed_is_that_of_run_task_sample_turn_and_epoch() -> None:
    one = seed_of(0, "safety/jailbreak", "0113", 0)
    assert one == seed_of(0, "safety/jailbreak", "0113", 0)
    others = [
        seed_of(1, "safety/jailbreak", "0113", 0),
        seed_of(0, "safety/misuse", "0113", 0),
        seed_of(0, "safety/jailbreak", "0114", 0),
        seed_of(0, "safety/jailbreak", "0113", 1),
        seed_of(0, "safety/jailbreak", "0113", 0, 1),
    ]
    assert len({one, *others}) == 6
    assert all(0 <= s < 2**31 for s in (one, *others))


@pytest.mark.parametrize(
    ("response", "status", "fatal"),
    [
        (Response(error="HTTP 500"), "unscored", False),
        (Response(error="ValueError: x", raised=True), "error", False),
        (Response(error="HTTP 401", fatal=True), "error", True),
    ],
)
def test_a_model_that_does_not_answer(response: Response, status: str, fatal: bool) -> None:
    outcome = run(lambda *_: pytest.fail("there is nothing to score"), Scripted(lambda r: response))
    assert (outcome.status, outcome.fatal) == (status, fatal)
    assert (outcome.record["value"], outcome.record["parity"]) == (None, None)
    assert outcome.record["reason"] == f"no response: {response.error}"
    assert outcome.transcript["responses"][0]["error"] == response.error


def test_half_a_pair_is_no_pair() -> None:
    target = Scripted(lambda r: Response(error="down") if r.text == "two" else "fine")
    outcome = run(right, target, PAIR)
    assert (outcome.status, outcome.record["reason"]) == ("unscored", "no response: down")
    assert [r["text"] for r in outcome.transcript["responses"]] == ["fine", None]


def test_no_text_is_the_scorers_to_judge() -> None:
    outcome = run(
        lambda s, replies: Score.none("no response" if replies[0].text is None else "?"), Scripted(lambda r: None)
    )
    assert (outcome.status, outcome.record["reason"]) == ("unscored", "no response")


def test_a_missed_target_is_no_error() -> None:
    assert run(lambda *_: Score(0.0, met=False)).status == "missed"
    assert run(lambda *_: Score.none("unclear")).status == "unscored"


def question(text: str, role: str = "judge", **more: Any) -> Question:
    return Question(role, (("user", text),), **more)  # type: ignore[arg-type]


def in_two_steps(sample: Sample, replies: Sequence[Response]) -> Any:
    (label,) = yield [question(f"refused? {replies[0].text}", "refusal")]
    first, second = yield [question("a"), question("b")]
    return Score(1.0, answer=f"{label.text} {first.text} {second.text}")


def test_a_scorer_may_ask_several_times_and_several_at_once() -> None:
    judge, refusal = Scripted(lambda r: r.text * 2), Scripted(lambda r: "compliance")
    outcome = run(in_two_steps, Scripted(lambda r: "hello"), judge=judge, refusal=refusal)
    assert outcome.record["answer"] == "compliance aa bb"
    assert [r.text for r in refusal.asked] == ["refused? hello"]
    assert [(v["role"], v["text"]) for v in outcome.transcript["verdicts"]] == [
        ("refusal", "compliance"), ("judge", "aa"), ("judge", "bb"),
    ]  # fmt: skip
    assert all(r.origin is None and r.seed == 0 for r in judge.asked)


def asks_for_yes(sample: Sample, replies: Sequence[Response]) -> Any:
    retry = (("user", "say yes!"),)
    (reply,) = yield [question("yes?", accept=lambda r: r.text == "yes", retry=retry)]
    return Score(1.0, answer=reply.text) if reply.text == "yes" else Score.none(f"judge said {reply.text}")


def test_an_unreadable_reply_is_asked_once_more_in_other_words() -> None:
    judge = Scripted(lambda r: "yes" if r.text == "say yes!" else "hmm")
    outcome = run(asks_for_yes, judge=judge)
    assert outcome.record["answer"] == "yes"
    assert [(r.text, r.fresh) for r in judge.asked] == [("yes?", False), ("say yes!", True)]


def test_a_reply_that_stays_unreadable_is_no_score() -> None:
    judge = Scripted(lambda r: "hmm")
    outcome = run(asks_for_yes, judge=judge)
    assert (outcome.status, outcome.record["value"], outcome.record["reason"]) == ("unscored", None, "judge said hmm")
    assert len(judge.asked) == 2


def asks_for_a_label(sample: Sample, replies: Sequence[Response]) -> Any:
    (reply,) = yield [question("yes?", label=Vocabulary(("YES", "NO")).read)]
    return (
        Score.none(reply.error or "cut") if reply.finish == "length" or reply.error else Score(1.0, answer=reply.text)
    )


def test_a_reply_that_was_cut_is_asked_for_with_much_more_room() -> None:
    def thinks(request: Request) -> Response:
        short = request.generation.max_new_tokens < 3000
        return Response(text="YES, if one", finish="length") if short else Response(text="NO", finish="stop")

    judge = Scripted(thinks)
    outcome = run(asks_for_a_label, judge=judge)
    assert outcome.record["answer"] == "NO"
    assert [r.generation.max_new_tokens for r in judge.asked] == [256, 4096]


def test_a_reply_that_is_no_label_is_asked_for_with_the_same_room() -> None:
    judge = Scripted(lambda r: "I cannot tell")
    run(asks_for_a_label, judge=judge)
    assert [r.generation.max_new_tokens for r in judge.asked] == [256, 256]


def test_votes_with_one_label_agree_however_it_is_written() -> None:
    label = Vocabulary(("YES", "NO")).read
    votes = [Response(text=t) for t in ("NO", "**YES**", "It matches.\nYES")]
    winner, share = majority(votes, label)
    assert (winner.text, share) == ("**YES**", 2 / 3)


def test_votes_without_a_label_count_for_none() -> None:
    label = Vocabulary(("YES", "NO")).read
    votes = [Response(text=t) for t in ("I cannot tell", "I cannot tell", "YES")]
    winner, share = majority(votes, label)
    assert (winner.error, share) == ("no majority among the judge's 3 votes: 'YES'", 1 / 3)
    assert majority(votes[:2], label) == (votes[0], None)


def test_without_a_majority_the_reason_says_why_votes_failed() -> None:
    yes, down = Response(text="YES"), Response(error="RuntimeError: judge\ndown" + "x" * 200)
    winner, _ = majority([yes, down, down])
    cause = "RuntimeError: judge\\ndown" + "x" * 74 + "…"
    assert winner.error == f"no majority among the judge's 3 votes: 'yes'; 2 without a reply: {cause}"
    causes = [Response(error=f"HTTP {status}") for status in (500, 502, 503)]
    winner, _ = majority([yes, *causes, Response(unanswered=BLOCKED)])
    assert winner.error == "no majority among the judge's 5 votes: 'yes'; 4 without a reply: HTTP 500, HTTP 502"


def test_a_judge_that_fails_is_not_asked_again_by_the_scorer() -> None:
    judge = Scripted(lambda r: Response(error="HTTP 500"))
    assert run(asks_for_yes, judge=judge).status == "unscored"
    assert len(judge.asked) == 1


def test_a_role_without_a_model_says_which_flag_gives_one() -> None:
    def score(sample: Sample, replies: Sequence[Response]) -> Any:
        (reply,) = yield [question("x")]
        return Score.none(reply.error or "")

    assert run(score).record["reason"] == "no judge model (--trust-judge)"


def divides(sample: Sample, replies: Sequence[Response]) -> Score:
    return Score(1 / 0)


def divides_later(sample: Sample, replies: Sequence[Response]) -> Any:
    yield [question("x")]
    return 1 / 0


def lacks_a_field(sample: Sample, replies: Sequence[Response]) -> Score:
    raise ScorerError("d/t[0003]: the row has no field 'label'")


def asks_nonsense(sample: Sample, replies: Sequence[Response]) -> Any:
    yield ["not a question"]


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (lacks_a_field, "d/t[0003]: the row has no field 'label'"),
        (lambda *_: Score(float("nan")), "scorer 'mine' returned nan, expected a finite number"),
        (lambda *_: Score(float("inf")), "scorer 'mine' returned inf, expected a finite number"),
        (lambda *_: Score("1"), "scorer 'mine' returned '1', expected a finite number"),  # type: ignore[arg-type]
        (lambda *_: Score(1.0, observed={"x": {1}}), "scorer 'mine' observed something that is not JSON: *"),
        (lambda *_: Score(1.0, parity={"value": object()}), "scorer 'mine' observed something that is not JSON: *"),
    ],
)
def test_a_scorer_that_breaks_its_contract_costs_its_sample_and_is_named(score: Any, reason: str) -> None:
    outcome = run(score, judge=Scripted(lambda r: "x"))
    assert (outcome.status, outcome.record["value"], outcome.record["parity"]) == ("unscored", None, None)
    assert outcome.record["reason"].startswith(reason.rstrip("*"))
    assert reason.endswith("*") or outcome.record["reason"] == reason


@pytest.mark.parametrize(
    ("score", "raised", "where"),
    [
        (divides, "ZeroDivisionError: division by zero", "in divides"),
        (divides_later, "ZeroDivisionError: division by zero", "in divides_later"),
        (asks_nonsense, "AttributeError: ", ""),
    ],
)
def test_a_scorer_that_raises_fails_its_item_and_says_where(score: Any, raised: str, where: str) -> None:
    outcome = run(score, judge=Scripted(lambda r: "x"))
    assert (outcome.status, outcome.record["value"], outcome.fatal) == ("error", None, False)
    assert outcome.record["reason"].startswith(f"scorer 'mine' raised {raised}")
    if where:
        assert re.search(rf"\(\S*test_runner\.py:\d+, {where}\)$", outcome.record["reason"])


@pytest.mark.parametrize("returned", [0.5, None])
def test_a_scorer_that_returns_no_score_fails_its_item(returned: object) -> None:
    outcome = run(lambda *_: returned, judge=Scripted(lambda r: "x"))
    assert (outcome.status, outcome.record["value"], outcome.fatal) == ("error", None, False)
    assert outcome.record["reason"] == f"scorer 'mine' returned {type(returned).__name__}, expected Score"


def test_what_a_scorer_prints_and_expects_is_kept_with_the_texts() -> None:
    class Says:
        roles = ()
        target = "label"

        def score(self, sample: Sample, replies: Sequence[Response]) -> Score:
            print("debugging", replies[0].text)
            return Score(1.0)

    async def go() -> SampleOutcome:
        runner = Runner(Engine(Scripted(lambda r: "answer"), None), {}, 0)
        sample = dataclasses.replace(SAMPLE, rows=({"prompt": "p", "label": "gold"},))
        return await runner.run(dataclasses.replace(task(right), scorer=Says()), sample)

    outcome = asyncio.run(go())
    assert outcome.transcript["printed"] == "debugging answer\n"
    assert outcome.transcript["expected"] == "gold"


def test_readers_score_the_same_answers_and_ask_nothing_again() -> None:
    target = Scripted(lambda r: "answer")
    reader = task(lambda s, replies: Score(0.25, answer=replies[0].text), "reads")
    broken = task(divides, "broken")
    outcome = run(right, target, readers=[reader, broken])
    assert len(target.asked) == 1
    assert outcome.status == "passed"  # what a reader makes of it is no part of the item's status
    assert outcome.record["also"]["d/reads"]["value"] == 0.25
    assert outcome.record["also"]["d/broken"]["reason"].startswith("scorer 'mine' raised")


def test_readers_of_an_answer_that_never_came() -> None:
    outcome = run(right, Scripted(lambda r: Response(error="down")), readers=[task(right, "reads")])
    assert outcome.record["also"]["d/reads"] == {
        "value": None, "answer": None, "reason": "no response: down", "observed": {}, "parity": None, "met": False,
    }  # fmt: skip


def test_what_does_not_apply_is_told_from_what_is_missing() -> None:
    record = run(lambda *_: Score.not_applicable("a refusal is not rated")).record
    assert (record["applies"], record["value"]) == (False, None)
    assert "applies" not in run(right).record


def test_long_and_hostile_texts_are_shown_on_one_line() -> None:
    score = run(lambda *_: Score(1.0, answer="a\n\x1b[31m" + "x" * 1000)).record
    assert score["answer"].startswith("a\\n\\x1b[31m")
    assert len(score["answer"]) <= 200
    assert len(run(lambda *_: Score.none("x" * 1000)).record["reason"]) <= 300


def refusals() -> Task:
    return dataclasses.replace(task(right), scorer=Refusal())


def run_blocked(response: Response, asked: Task, **how: Any) -> SampleOutcome:
    async def go() -> SampleOutcome:
        runner = Runner(Engine(Scripted(lambda r: response), None), {}, 0, **how)
        return await runner.run(asked, SAMPLE)

    return asyncio.run(go())


def test_what_the_provider_blocked_is_a_refusal_where_refusals_are_counted() -> None:
    blocked = Response(unanswered=BLOCKED, finish="content_filter")
    outcome = run_blocked(blocked, refusals())
    assert (outcome.status, outcome.record["value"], outcome.record["unanswered"]) == ("passed", 1.0, BLOCKED)
    assert outcome.record["answer"] == "refusal (blocked by the provider)"
    assert outcome.record["parity"] is None
    assert outcome.transcript["responses"][0]["unanswered"] == BLOCKED


def test_a_block_stays_unscored_where_the_run_or_the_task_says_so() -> None:
    blocked = Response(unanswered=BLOCKED)
    for outcome in (run_blocked(blocked, refusals(), blocked_counts=False), run_blocked(blocked, task(right))):
        assert (outcome.status, outcome.record["value"], outcome.record["reason"]) == ("unscored", None, BLOCKED)


def test_over_epochs_a_block_counts_like_any_refusal() -> None:
    outcome = run_blocked(Response(unanswered=BLOCKED), refusals(), epochs=2)
    assert [epoch.get("unanswered") for epoch in outcome.record["epochs"]] == [BLOCKED, BLOCKED]
    assert (outcome.status, outcome.record["value"]) == ("passed", 1.0)


def test_a_thought_that_was_cut_is_never_scored() -> None:
    def never(sample: Sample, replies: Sequence[Response]) -> Score:
        raise AssertionError("there is nothing to score")

    target = Scripted(lambda r: Response(text="<think>I wonder", finish="length", output_tokens=9))
    outcome = run(never, target)
    assert (outcome.status, outcome.record["reason"]) == ("unscored", REASONING_CUT)
    assert outcome.transcript["responses"][0]["reasoning"] == "I wonder"
    assert outcome.transcript["responses"][0]["text"] is None


def test_scorers_see_the_answer_alone() -> None:
    outcome = run(right, Scripted(lambda r: "<think>No.</think>Yes."))
    assert outcome.record["answer"] == "Yes."
    assert outcome.transcript["responses"][0]["reasoning"] == "No."


def test_of_a_pair_one_cut_thought_is_enough() -> None:
    target = Scripted(lambda r: Response(text="<think>Hm" if r.text == "one" else "B", finish="length"))
    assert run(right, target, PAIR).record["reason"] == REASONING_CUT


def test_a_judge_that_thinks_is_read_without_its_thoughts() -> None:
    def judged(sample: Sample, replies: Sequence[Response]) -> Any:
        (verdict,) = yield [Question("judge", (("user", "yes or no?"),))]
        return Score(1.0, True, verdict.text)

    outcome = run(judged, judge=Scripted(lambda r: "<think>no, no</think>yes"))
    assert outcome.record["answer"] == "yes"
    assert outcome.transcript["verdicts"][0]["reasoning"] == "no, no"


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_missing_or_blank_response_is_unscored_whatever_a_scorer_makes_of_it(text: str | None) -> None:
    """A rule may count it as wrong, or as right where lower is better: it is no answer for all that."""
    for value in (0.0, 1.0):
        outcome = run(lambda s, r, value=value: Score(value, True), Scripted(lambda r: Response(text=text)))
        assert outcome.status == "unscored"
        assert (outcome.record["silent"], outcome.record["value"]) == (True, value)
        assert outcome.record["reason"] == "no response"
    outcome = run(lambda s, r: Score.none("cannot be read"), Scripted(lambda r: Response(text=text)))
    assert outcome.record["reason"] == "cannot be read"


def test_one_missing_response_of_a_pair_leaves_it_unscored() -> None:
    outcome = run(right, Scripted(lambda r: "yes" if r.text == "one" else None), PAIR)
    assert (outcome.status, outcome.record["silent"]) == ("unscored", True)
    assert "silent" not in run(right, Scripted(lambda r: "yes"), PAIR).record


def test_a_failed_request_is_not_a_missing_response() -> None:
    outcome = run(right, Scripted(lambda r: Response(error="busy")))
    assert "silent" not in outcome.record
    assert outcome.record["reason"] == "no response: busy"
