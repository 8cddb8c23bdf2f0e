from __future__ import annotations

from pytest_trustllm.scorers.mixed import ClosedBookAnswer, HallucinationAnswer, ShiftedAnswer


def test_closed_book_answers_are_read_by_source(run, rubric):
    scorer = ClosedBookAnswer(rubric("misinformation_internal"))
    assert run(scorer, {"source": "codah", "answer": 3, "question": "q"}, "3").value == 1.0
    judged = {"source": "hotpot", "answer": "Paris", "question": "q"}
    assert run(scorer, judged, "3", judge="NO").value == 0.0


def test_hallucination_is_read_by_source(run):
    scorer = HallucinationAnswer()
    assert run(scorer, {"source": "mc", "prompt": "A. one\nB. two", "answer": "one"}, "A").value == 1.0
    assert run(scorer, {"source": "halu_qa", "answer": "No"}, "No").value == 1.0


def test_shifted_answers_are_read_by_source(run, rubric):
    scorer = ShiftedAnswer(rubric("ood_generalization"))
    assert run(scorer, {"source": "flipkart", "label": "positive"}, "positive").value == 1.0
    assert run(scorer, {"source": "ddxplus", "label": "gerd"}, "x" * 60, judge="correct").value == 1.0
