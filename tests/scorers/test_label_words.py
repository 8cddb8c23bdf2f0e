"""Labels in twelve languages, and responses in languages that nobody reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import case
from mistakes import TASK

from pytest_trustllm.registry import Registry
from pytest_trustllm.scorers.label import MoralWord, YesOrNo
from pytest_trustllm.scorers.label_words import _BAD, _DENIES, _GOOD, _NEUTRAL, _NO, _YES
from pytest_trustllm.scorers.scripts import SCRIPTS, main_script, unread_script
from pytest_trustllm.suites.reader import read_suite

ALL = tuple(SCRIPTS)
YES_NO = {
    "ar": ("نعم، هذا صحيح.", "لا، هذا خطأ."),
    "de": ("Ja, das stimmt.", "Nein."),
    "en": ("Yes, it is.", "No."),
    "es": ("Sí, claro.", "No, para nada."),
    "fr": ("Oui.", "Non, pas du tout."),
    "hi": ("हाँ, यह सही है।", "नहीं।"),
    "it": ("Sì.", "No, affatto."),
    "ja": ("はい、そうです。", "いいえ、違います。"),
    "ko": ("네, 맞습니다.", "아니요, 틀렸습니다."),
    "pt": ("Sim.", "Não, de modo algum."),
    "ru": ("Да, это так.", "Нет."),
    "zh": ("是的，没错。", "不是，这是错的。"),
}
MORAL = {
    # good, neutral, bad, and good that is denied
    "ar": ("هذا جيد", "محايد", "سيئ", "ليس جيدا"),
    "de": ("Das ist gut.", "Neutral.", "Das ist schlecht.", "Das ist nicht gut."),
    "en": ("It is good.", "Neutral.", "It is bad.", "It is not good."),
    "es": ("Es bueno.", "Neutral.", "Es malo.", "No es bueno."),
    "fr": ("C'est bon.", "C'est neutre.", "C'est mauvais.", "Ce n'est pas bon."),
    "hi": ("यह अच्छा है।", "तटस्थ।", "यह बुरा है।", "यह अच्छा नहीं है।"),
    "it": ("È buono.", "È neutro.", "È cattivo.", "Non è buono."),
    "ja": ("良い。", "中立。", "悪い。", "良いではない。"),
    "ko": ("좋음", "중립", "나쁨", "안 좋음"),
    "pt": ("É bom.", "É neutro.", "É ruim.", "Não é bom."),
    "ru": ("Это хорошо.", "Нейтрально.", "Это плохо.", "Это не хорошо."),
    "zh": ("好。", "中立。", "坏。", "不太好。"),
}


def test_every_language_has_words() -> None:
    foreign = set(SCRIPTS) - {"en"}
    for words in (_YES, _NO, _GOOD, _NEUTRAL, _BAD, _DENIES):
        assert set(words) == foreign
    assert set(YES_NO) == set(MORAL) == set(SCRIPTS)


@pytest.mark.parametrize("all_at_once", [False, True])
def test_yes_and_no(all_at_once: bool, run: Any) -> None:
    for code, texts in YES_NO.items():
        languages = ALL if all_at_once else (code,)
        for text, gold in zip(texts, ("Yes", "No"), strict=True):
            with case(code, text):
                assert run(YesOrNo(languages=languages), {"answer": gold}, text).value == 1.0
                other = {"Yes": "No", "No": "Yes"}[gold]
                assert run(YesOrNo(languages=languages), {"answer": other}, text).value == 0.0


@pytest.mark.parametrize("all_at_once", [False, True])
def test_good_neutral_and_bad(all_at_once: bool, run: Any) -> None:
    for code, (*texts, denied) in MORAL.items():
        languages = ALL if all_at_once else (code,)
        for text, rating in zip(texts, (1, 0, -1), strict=True):
            with case(code, text):
                assert run(MoralWord(languages=languages), {"label": rating}, text).value == 1.0
        with case(code, denied):
            found = run(MoralWord(languages=languages), {"label": 1}, denied)
            assert found.value != 1.0


def test_words_inside_of_others_and_lists_are_no_answer(run: Any) -> None:
    for text in ("Japan ist ein Land", "nein oder ja", "Siehe oben", "对不起", "не знаю", "sim ou não?"):
        with case(text):
            found = run(YesOrNo(languages=ALL), {"answer": "Yes"}, text)
            assert (found.value, found.answer) == (0.0, None)


def test_a_language_that_nobody_reads_is_no_miss(run: Any) -> None:
    greek, thai = "Ναι, βεβαίως.", "ใช่ แน่นอน"
    found = run(YesOrNo(languages=("de",)), {"answer": "Yes"}, greek)
    assert (found.value, found.reason) == (None, "language: Greek is not read")
    found = run(MoralWord(languages=("de",)), {"label": 1}, thai)
    assert (found.value, found.reason) == (None, "language: Thai is not read")
    found = run(YesOrNo(languages=("de",)), {"answer": "Yes"}, "Да.")
    assert (found.value, found.reason) == (None, "language: Cyrillic is not read; 'languages' may list ru")
    assert run(YesOrNo(languages=("ru",)), {"answer": "Yes"}, "Может быть").value == 0.0
    assert run(YesOrNo(), {"answer": "Yes"}, greek).value == 0.0  # a suite that says nothing of languages


def test_scripts() -> None:
    for code, (text, _) in YES_NO.items():
        with case(code):
            assert main_script(text) in SCRIPTS[code]
            assert unread_script(text, [code]) is None
    assert main_script("12 + 3 = 15 !?") is None
    assert main_script("ab вг") is None
    assert main_script("ｆｕｌｌ") == "Latin"
    assert unread_script("Ναι", SCRIPTS) == "Greek"


def test_a_suite_lists_languages_for_its_tasks(tmp_path: Path) -> None:
    def task(**more: Any) -> dict[str, Any]:
        return {**TASK, "scorer": {"any_of": ["yes_or_no", {"not": "moral_word"}]}, **more}

    document = {"dimension": "safety", "languages": ["de", "fr"], "tasks": [
        task(name="a"), task(name="b", languages=["ru"]), task(name="c", languages=[]),
        task(name="d", scorer={"name": "yes_or_no", "languages": ["hi"]}), task(name="e", scorer="refusal"),
    ]}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    scorers = [task.scorer for task in read_suite(tmp_path / "mine.yaml", Registry()).tasks]
    assert [scorer.scorers[0].scorer.languages for scorer in scorers[:3]] == [("de", "fr"), ("ru",), ()]
    assert scorers[0].scorers[1].scorer.scorer.scorer.languages == ("de", "fr")
    assert scorers[3].languages == ("hi",)
