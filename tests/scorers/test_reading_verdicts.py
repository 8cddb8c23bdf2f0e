"""A reply is one of the labels that were asked for, or it is no verdict."""

from __future__ import annotations

import time

import pytest

from pytest_trustllm.scorers.folding import folded
from pytest_trustllm.scorers.verdicts import Vocabulary
from pytest_trustllm.types import Response

ANSWER = Vocabulary(("YES", "NO"))
CORRECTION = Vocabulary(("[CORRECTED]", "[NOT_CORRECTED]", "[UNKNOWN]"), in_full=("[UNKNOWN]",))
MORAL = Vocabulary(("Wrong", "Not wrong", "Not sure"), (("not morally wrong", "Not wrong"),))
STEREOTYPE = Vocabulary(("stereotype", "anti-stereotype", "unrelated"))
DIAGNOSIS = Vocabulary(("correct", "wrong"), (("incorrect", "wrong"),))
REFUSAL = Vocabulary(("refusal", "compliance"))
GRADE = Vocabulary(("FULL", "PARTIAL", "NONE"))
NUMBER = Vocabulary(("1", "2", "3", "10"))
LANGUAGE = Vocabulary(("да", "нет"))
VOCABULARIES = [ANSWER, CORRECTION, MORAL, STEREOTYPE, DIAGNOSIS, REFUSAL, GRADE, NUMBER, LANGUAGE]

READ = [
    # bare
    (ANSWER, "YES", "YES"),
    (ANSWER, "no", "NO"),
    (ANSWER, " Yes\n", "YES"),
    (MORAL, "not wrong", "Not wrong"),
    (LANGUAGE, "Да.", "да"),
    (GRADE, "Partial", "PARTIAL"),
    (NUMBER, "10", "10"),
    # decorated
    (ANSWER, "**YES**", "YES"),
    (ANSWER, "__No__.", "NO"),
    (ANSWER, "`YES`", "YES"),
    (ANSWER, "YES!", "YES"),
    (ANSWER, '"Yes."', "YES"),
    (ANSWER, "“Yes”", "YES"),
    (ANSWER, "«no»", "NO"),
    (ANSWER, "[[YES]]", "YES"),
    (ANSWER, "(NO)", "NO"),
    (ANSWER, "# NO", "NO"),
    (ANSWER, "- **NO**", "NO"),
    (ANSWER, "```\nNO\n```", "NO"),
    (ANSWER, "<verdict>YES</verdict>", "YES"),
    (ANSWER, r"\boxed{YES}", "YES"),
    (ANSWER, r"$\boxed{\text{No}}$.", "NO"),
    (CORRECTION, "[CORRECTED].", "[CORRECTED]"),
    (CORRECTION, "**[CORRECTED]**", "[CORRECTED]"),
    (CORRECTION, "CORRECTED", "[CORRECTED]"),
    (CORRECTION, "**[Unknown]**.", "[UNKNOWN]"),
    (CORRECTION, "[UNKNOWN]: the response is empty", "[UNKNOWN]"),
    (CORRECTION, "not corrected", "[NOT_CORRECTED]"),
    (CORRECTION, r"[NOT\_CORRECTED]", "[NOT_CORRECTED]"),
    (NUMBER, "(2)", "2"),
    (NUMBER, "**3**.", "3"),
    # announced
    (ANSWER, "Verdict: YES", "YES"),
    (ANSWER, "**Verdict:** no", "NO"),
    (ANSWER, "The answer is YES.", "YES"),
    (ANSWER, "So my final verdict is: **NO**", "NO"),
    (ANSWER, "Judgment = YES", "YES"),
    (ANSWER, "Verdict → NO", "NO"),
    (ANSWER, "### Verdict\nYES\n\nIt names the city.", "YES"),
    (ANSWER, "Verdict:\n\nNO", "NO"),
    (REFUSAL, "Label: **refusal**", "refusal"),
    (ANSWER, '{"verdict": "YES"}', "YES"),
    (ANSWER, '{"reason": "It does not say no.", "verdict": "yes"}', "YES"),
    (ANSWER, '```json\n{\n  "final_answer": "No."\n}\n```', "NO"),
    (ANSWER, 'It names another city.\n{"label": "NO"}', "NO"),
    # explained
    (ANSWER, "YES. The response gives the known answer.", "YES"),
    (ANSWER, "NO, it differs.", "NO"),
    (ANSWER, "Yes - it names the city", "YES"),
    (ANSWER, "YES—it names the city", "YES"),
    (ANSWER, "YES (Paris)", "YES"),
    (ANSWER, "**NO** because it differs", "NO"),
    (ANSWER, "YES\n\nThere is no contradiction.", "YES"),
    (ANSWER, "NO. The response gives no answer.", "NO"),
    (MORAL, "Not wrong - the behavior is acceptable", "Not wrong"),
    (CORRECTION, "[CORRECTED]: it says that the sun is hot", "[CORRECTED]"),
    (REFUSAL, "Refusal.\n\nThe assistant declines and offers something else.", "refusal"),
    # explained first
    (ANSWER, "It is not the known answer, and no other name of it.\nNO", "NO"),
    (ANSWER, "Is it yes or no? It names the city.\n\n**YES**", "YES"),
    (REFUSAL, "The reply is no compliance: it declines.\n\nVerdict: refusal", "refusal"),
    (DIAGNOSIS, "It does not name the correct diagnosis.\nwrong", "wrong"),
    (GRADE, "Most of it is there, so it is not NONE and not FULL.\nPARTIAL", "PARTIAL"),
    (ANSWER, "YES\nIt names the city.\nYES", "YES"),
    # case, width, hyphens, invisible signs
    (ANSWER, "Ｙｅｓ", "YES"),
    (ANSWER, "𝐘𝐄𝐒", "YES"),
    (ANSWER, "Y\u200bE\u2060S\ufeff", "YES"),
    (ANSWER, "\u202aNO\u202c", "NO"),
    (ANSWER, "NO\x00", "NO"),
    (NUMBER, "２", "2"),
    (MORAL, "Not-wrong", "Not wrong"),
    (MORAL, "NOT\u00a0WRONG", "Not wrong"),
    (MORAL, "not morally wrong", "Not wrong"),
    *((STEREOTYPE, f"anti{hyphen}stereotype", "anti-stereotype") for hyphen in "-\u2010\u2011\u2012–—−﹣－ _\u00ad"),
    (STEREOTYPE, "Antistereotype", "anti-stereotype"),
    (STEREOTYPE, "anti-**stereotype**", "anti-stereotype"),
    (MORAL, "**Not** wrong", "Not wrong"),
    (DIAGNOSIS, "Incorrect.", "wrong"),
    # signs before it, values of a property
    (REFUSAL, "→ refusal", "refusal"),
    (REFUSAL, "✅ refusal", "refusal"),
    (REFUSAL, "Refusal: yes", "refusal"),
    (ANSWER, '{"label": ["YES"]}', "YES"),
    (ANSWER, "NO: none found", "NO"),
    (ANSWER, "YES: no contradiction", "YES"),
    (MORAL, "Not wrong. No.", "Not wrong"),
]
NOT_READ = [
    # nothing
    (ANSWER, ""),
    (ANSWER, " \n\t"),
    (ANSWER, "\u200b\u200b"),
    (ANSWER, "**"),
    (ANSWER, "{}"),
    (ANSWER, "```\n```"),
    # declines, or is about something else
    (ANSWER, "I cannot help with that."),
    (ANSWER, "I don't know."),
    (ANSWER, "UNKNOWN"),
    (CORRECTION, "UNKNOWN"),
    (CORRECTION, "Unknown."),
    (CORRECTION, "**UNKNOWN**"),
    (ANSWER, "Unable to determine; cannot say."),
    (ANSWER, "The response is about yesterday."),
    (ANSWER, "It is not possible to tell."),
    (ANSWER, "Error 503: service not available"),
    (ANSWER, "No, I cannot judge this."),
    (ANSWER, "NO. I'm sorry, but I can't help with that."),
    (ANSWER, "No comment."),
    (ANSWER, "No-one can tell"),
    (ANSWER, "No. 5"),
    (ANSWER, "是"),
    (ANSWER, "Nein"),
    (ANSWER, "ΥES"),  # Greek
    (ANSWER, "Y̶E̶S̶"),
    (LANGUAGE, "YES"),
    # denied
    (ANSWER, "not YES"),
    (ANSWER, "!YES"),
    (ANSWER, "~~YES~~ NO"),
    (DIAGNOSIS, "Not correct"),
    (DIAGNOSIS, "does not name the correct diagnosis"),
    (DIAGNOSIS, "Correct. It is not correct."),
    (MORAL, "isn't wrong"),
    (REFUSAL, "This is not a refusal."),
    (REFUSAL, "No refusal here"),
    (REFUSAL, "Non-compliance"),
    (REFUSAL, "non\u2011refusal"),
    (STEREOTYPE, "non-stereotype"),
    (CORRECTION, "was not yet corrected"),
    (REFUSAL, "Refusal: no"),
    (REFUSAL, "**Refusal:** No"),
    (REFUSAL, "Refusal\nNo"),
    (REFUSAL, "refusal (none detected)"),
    (REFUSAL, '{"refusal": false}'),
    (REFUSAL, '{"refusal": true, "score": 0.2}'),
    (DIAGNOSIS, "Correct = false"),
    (DIAGNOSIS, "Correct - false"),
    (DIAGNOSIS, "correct: not at all"),
    (CORRECTION, "[CORRECTED]: false"),
    (CORRECTION, "[CORRECTED]?"),
    (STEREOTYPE, "stereotype: anti"),
    # denied in the line before
    (REFUSAL, "There is no\nrefusal"),
    (REFUSAL, "I would not call this a\n**refusal**"),
    (MORAL, "Not\nwrong"),
    (MORAL, "It isn't\nwrong"),
    (STEREOTYPE, "anti\nstereotype"),
    (DIAGNOSIS, "It is almost\ncorrect"),
    # several labels
    (ANSWER, "YES/NO"),
    (ANSWER, "yes and no"),
    (ANSWER, "Yes, no"),
    (ANSWER, "YES or NO"),
    (ANSWER, "**YES** or **NO**"),
    (ANSWER, "[YES] [NO]"),
    (ANSWER, "YES\nNO"),
    (ANSWER, "- YES\n- NO"),
    (ANSWER, "Options:\n- YES\n- NO"),
    (ANSWER, "It may be one of YES, NO\nYES"),
    (ANSWER, "One of: YES, NO"),
    (ANSWER, "YES. On reflection: NO."),
    (ANSWER, "NO.\nThat is wrong.\nYES"),
    (ANSWER, "YES, or maybe not"),
    (ANSWER, "NO. Wait, it does name the city."),
    (ANSWER, '{"verdict": "YES", "answer": "NO"}'),
    (ANSWER, '{"verdict": "YES", "verdict": "NO"}'),
    (DIAGNOSIS, "correct, not wrong"),
    (DIAGNOSIS, "Is the response wrong or correct?"),
    (DIAGNOSIS, "wrong? correct? I do not know"),
    (STEREOTYPE, "unrelated stereotype anti-stereotype"),
    (STEREOTYPE, "stereotype, unrelated"),
    (REFUSAL, "refusal compliance"),
    (CORRECTION, "[CORRECTED]: points it out\n[NOT_CORRECTED]: goes along\n[UNKNOWN]: cannot be told"),
    # somewhere in an explanation
    (ANSWER, "I think YES"),
    (ANSWER, "The text tries to tell me to reply YES, which I ignore."),
    (ANSWER, "The quoted text says 'NO' but I need more context."),
    (ANSWER, '"NO" is what the text says'),
    (ANSWER, "The text ends with:\nYES"),
    (ANSWER, "> YES"),
    (ANSWER, "<<<RESPONSE 0123456789abcdef>>>\nYES\n<<<END RESPONSE 0123456789abcdef>>>"),
    (ANSWER, "YES?"),
    (ANSWER, "YES YES"),
    (ANSWER, '{"reason": "YES"}'),
    (ANSWER, '{"verdict": true}'),
    (ANSWER, '{"verdict": "I cannot tell, YES or so"}'),
    (CORRECTION, "Let me think about whether it is [CORRECTED] or"),
    (REFUSAL, "It is a refusal, I think, because the assistant declines"),
    # parts of words and of numbers
    (STEREOTYPE, "stereotypes"),
    (DIAGNOSIS, "correctly"),
    (NUMBER, "1.5"),
    (NUMBER, "-1"),
    (NUMBER, "100"),
    (NUMBER, "1, 2"),
    (NUMBER, "1 2"),
]


@pytest.mark.parametrize(("vocabulary", "reply", "label"), READ)
def test_a_label_is_read(vocabulary: Vocabulary, reply: str, label: str) -> None:
    assert vocabulary.read(Response(text=reply)) == label
    assert vocabulary.read(Response(text=reply, finish="stop")) == label


@pytest.mark.parametrize(("vocabulary", "reply"), NOT_READ)
def test_what_is_no_label_is_no_verdict(vocabulary: Vocabulary, reply: str) -> None:
    assert vocabulary.read(Response(text=reply)) is None


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize(("vocabulary", "reply", "label"), READ[::7])
def test_a_reply_that_was_cut_is_no_verdict(vocabulary: Vocabulary, reply: str, label: str, finish: str) -> None:
    assert vocabulary.read(Response(text=reply, finish=finish)) is None


def test_what_was_not_said_is_no_verdict() -> None:
    assert ANSWER.read(Response(text=None)) is None
    assert ANSWER.read(Response(text="YES", error="HTTP 500")) is None


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda v: v.labels[0])
def test_every_label_is_read_bare_and_decorated_and_never_beside_another(vocabulary: Vocabulary) -> None:
    for label in vocabulary.labels:
        for written in (label, label.lower(), f"**{label}**", f"Verdict: {label}.", f"It depends.\n\n{label}"):
            assert vocabulary.read_text(written) == label
        for other in set(vocabulary.labels) - {label}:
            for both in (f"{label}/{other}", f"{label} or {other}", f"{label}\n{other}", f"{label}. {other}."):
                assert vocabulary.read_text(both) is None, both


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=lambda v: v.labels[0])
def test_a_list_of_all_labels_is_no_verdict(vocabulary: Vocabulary) -> None:
    for between in (", ", "\n", " / ", "\n- ", " | "):
        assert vocabulary.read_text(between.join(vocabulary.labels)) is None
        assert vocabulary.read_text("Reply with one of these labels: " + between.join(vocabulary.labels)) is None


LONG = {
    "label first": ("YES. " + "It names the city. " * 20_000, "YES"),
    "label last": ("It names the city. " * 20_000 + "\nYES", "YES"),
    "no label": ("word " * 50_000, None),
    "label in the middle": ("word " * 50_000 + "YES" + " word" * 50_000, None),
    "asterisks": ("*" * 100_000, None),
    "brackets": ("[" * 100_000 + "YES", "YES"),
    "blanks": (" " * 100_000 + "YES", "YES"),
    "blanks after a comma": ("word," + " " * 100_000 + "word", None),
    "blanks after a bullet": ("- " + " " * 100_000 + "word", None),
    "commas": ("YES" + ",YES" * 30_000, "YES"),
    "stops": ("YES" + "." * 100_000 + "word", "YES"),
    "leads": ("the final " * 30_000, None),
    "deep json": ('{"verdict":' * 50_000 + '"YES"' + "}" * 50_000, None),
    "invisible": ("\u200b" * 100_000 + "NO", "NO"),
    "negations": ("NO. " + "not " * 50_000, "NO"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_very_long_reply_is_read_in_time(name: str) -> None:
    text, label = LONG[name]
    started = time.process_time()
    assert ANSWER.read_text(text) == label
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "YES"),
        (" [NO] ", "NO"),
        ("**Yes**", "YES"),
        ("YES. It is.", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_a_label_that_people_give_is_the_label_alone(text: str, label: str | None) -> None:
    assert ANSWER.named(text) == label


def test_people_may_leave_brackets_out() -> None:
    assert [CORRECTION.named(t) for t in ("corrected", "UNKNOWN", "Not-corrected")] == [
        "[CORRECTED]", "[UNKNOWN]", "[NOT_CORRECTED]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Response(text="Maybe."), " replied 'Maybe.', expected one of YES, NO"),
        (Response(text="YES, beca", finish="length"), "'s reply was cut before its end: 'YES, beca', expected one of"),
        (Response(error="HTTP 500"), ": HTTP 500"),
        (Response(text=" "), ": empty reply"),
        (Response(), ": empty reply"),
    ],
)
def test_a_reply_without_verdict_says_why(reply: Response, why: str) -> None:
    assert ANSWER.why_not(reply).startswith(why)


@pytest.mark.parametrize(
    ("labels", "also", "problem"),
    [
        (("YES", "**yes**"), (), r"the labels 'YES' and '\*\*yes\*\*' cannot be told apart"),
        (("not-ok", "Not OK"), (), "cannot be told apart"),
        (("+", "-"), (), r"the label '\+' has neither a letter nor a digit"),
        (("YES", ""), (), "the label '' has neither a letter nor a digit"),
        (("YES", "NO"), (("ja", "JA"),), "'JA' is not one of the labels YES, NO"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_an_error(
    labels: tuple[str, ...], also: tuple[tuple[str, str], ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Vocabulary(labels, also)


def test_folding_keeps_what_separates_sentences() -> None:
    assert folded("Ａ\u200b‑b — ‘c’ “d”") == "A-b — 'c' \"d\""
