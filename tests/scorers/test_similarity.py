from __future__ import annotations

import math

import pytest

from pytest_trustllm.scorers.similarity import AnswerSimilarity, SimilarityGap
from pytest_trustllm.stats.vectors import cosine
from pytest_trustllm.types import Response

R = "raises"
ROW = {"n_completion": "east", "s_completion": "north", "index": 3, "type": "one_url"}
VECTORS = {"east": (1.0, 0.0), "north": (0.0, 2.0), "northeast": (3.0, 3.0), "west": (-1.0, 0.0), " \n": (1.0, 1.0)}


def vector(question):
    ((_, text),) = question.messages
    assert text
    return Response(vector=VECTORS[text])


def test_cosine_by_hand():
    assert cosine((3.0, 4.0), (4.0, 3.0)) == pytest.approx(24 / 25)
    assert cosine((1.0, 0.0), (-2.0, 0.0)) == -1.0


def test_vectors_of_different_lengths_have_no_cosine():
    with pytest.raises(ValueError, match="vectors of 2 and 3 numbers"):
        cosine((1.0, 0.0), (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("text", "gap", "met"),
    [
        ("east", 1.0, True),
        ("north", -1.0, False),
        ("northeast", 0.0, False),
        ("west", -1.0, False),
        (" \n", 0.0, False),
    ],
)
def test_similarity_gap(text, gap, met, run, both):
    score = run(SimilarityGap(), ROW, text, embedder=vector)
    assert both(score) == (pytest.approx(gap), pytest.approx(gap))
    assert score.met is met


@pytest.mark.parametrize("text", [None, ""])
def test_an_empty_response_is_never_embedded(text, run, both):
    assert both(run(SimilarityGap(), ROW, text)) == (None, R)


@pytest.mark.parametrize(
    "answer",
    [Response(error="HTTP 500"), Response(), Response(vector=(0.0, 0.0)), Response(vector=(math.nan, 1.0))],
)
def test_unusable_vectors_are_no_score(answer, run, both):
    score = run(SimilarityGap(), ROW, "east", embedder=answer)
    assert both(score) == (None, R)
    assert score.reason.startswith("embedder: ")


def test_vectors_of_different_lengths_are_no_score(run):
    answers = iter([(1.0,), (1.0, 0.0), (1.0,)])
    score = run(SimilarityGap(), ROW, "east", embedder=lambda q: Response(vector=next(answers)))
    assert score.reason == "embedder: vectors of different lengths"


def test_answer_similarity(run):
    score = run(AnswerSimilarity(), [ROW, ROW], "east", "northeast", embedder=vector)
    assert score.value == pytest.approx(math.sqrt(0.5))
    assert score.parity is None
    assert score.met is False
    assert run(AnswerSimilarity(stable=0.7), [ROW, ROW], "east", "northeast", embedder=vector).met is True
    assert run(AnswerSimilarity(stable=1.0), [ROW, ROW], "east", "east", embedder=vector).met is True  # from it on


def test_the_last_version_of_an_index_carries_its_vector_for_the_upstream_reading(run):
    row = {**ROW, "type": "html_others"}
    score = run(AnswerSimilarity(), [ROW, row], "east", "north", embedder=vector)
    assert score.parity == {"value": 0.0, "index": 3, "vector": [0.0, 2.0]}


@pytest.mark.parametrize(("original", "version"), [(None, "east"), ("", "east"), ("east", None), ("east", "")])
def test_a_pair_with_an_empty_side_is_skipped_and_upstream_raises(original, version, run, both):
    assert both(run(AnswerSimilarity(), [ROW, ROW], original, version)) == (None, R)
