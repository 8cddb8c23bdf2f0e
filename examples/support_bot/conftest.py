"""The app is the model under test."""

from __future__ import annotations

import pytest
from support_bot import answer

from pytest_trustllm import TrustModel


@pytest.fixture(scope="session")
def trust_model() -> TrustModel:
    return TrustModel.from_callable(answer, name="support-bot", max_concurrency=8)
