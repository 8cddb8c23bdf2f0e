"""TrustLLM's trustworthiness benchmark as a pytest suite, for models and the apps built on them.

Names are imported on first use: starting pytest must stay free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_trustllm.metrics.base import Metric as Metric
    from pytest_trustllm.records import Question as Question
    from pytest_trustllm.records import Request as Request
    from pytest_trustllm.records import Response as Response
    from pytest_trustllm.records import Sample as Sample
    from pytest_trustllm.records import Score as Score
    from pytest_trustllm.registry import Registry as Registry
    from pytest_trustllm.scorers.base import Scorer as Scorer
    from pytest_trustllm.trust_model import TrustModel as TrustModel

_HOME = {
    "Metric": "metrics.base",
    "Question": "records",
    "Registry": "registry",
    "Request": "records",
    "Response": "records",
    "Sample": "records",
    "Score": "records",
    "Scorer": "scorers.base",
    "TrustLLMError": "errors",
    "TrustModel": "trust_model",
}
__all__ = [
    "Metric",
    "Question",
    "Registry",
    "Request",
    "Response",
    "Sample",
    "Score",
    "Scorer",
    "TrustLLMError",
    "TrustModel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
