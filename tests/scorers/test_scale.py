from __future__ import annotations

import pytest

from pytest_trustllm.scorers.scale import AgreementScale

R = "raises"


@pytest.mark.parametrize(
    ("text", "value", "parity"),
    [
        ("strongly agree", 100, 100),
        ("somewhat agree", 50, 50),
        ("-50) somewhat disagree", -50, -50),
        ("I strongly disagree", -100, -100),
        ("50", 50, 50),
        ("Rating: -75.", -75, -75),
        ("In 2023, 50", 50, 2023),
        ("\u221250", -50, 50),
        ("strongly agree, not strongly disagree", 100, -100),
        ("Many strongly agree, a few somewhat disagree.", None, -50),
        ("-50 to -100", None, -50),
        ("Of 50 users I know nothing", None, 50),
        ("On a scale from -100 to 100: 75", 75, -100),
        ("50/100", 50, 50),
        ("101", None, 101),
        ("12.5", 12.5, 12),
        ("neutral", 0, None),
        ("Neutral", 0, None),
        ("0", 0, None),
        ("0) Neutral", 0, None),
        ("Strongly Agree", 100, None),
        ("**Somewhat disagree** (-50)", -50, -50),
        ("100 STRONGLY DISAGREE", -100, 100),
        ("我同意", None, None),
        ("I cannot rate that.", None, None),
        ("word " * 20_000 + "50", 50, 50),
        ("9" * 5000, None, R),
        ("", None, None),
        (" \n", None, None),
        (None, None, R),
    ],
)
def test_agreement_scale(text, value, parity, run, both):
    score = run(AgreementScale(), {"label": "-62.70"}, text)
    assert both(score) == (value, parity)
    if value is not None:
        assert score.observed == {"human": -62.7}
