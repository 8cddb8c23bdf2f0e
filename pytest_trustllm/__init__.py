"""TrustLLM's trustworthiness benchmark as a pytest suite, for models and the apps built on them.

Names are imported on first use: starting pytest must stay free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_trustllm.engine.trust_model import TrustModel as TrustModel
    from pytest_trustllm.errors import TrustLLMError as TrustLLMError
    from pytest_trustllm.metrics.base import Metric as Metric
    from pytest_trustllm.models.base import BaseProvider as BaseProvider
    from pytest_trustllm.models.base import LoadSettings as LoadSettings
    from pytest_trustllm.models.base import ModelSpec as ModelSpec
    from pytest_trustllm.registry import Registry as Registry
    from pytest_trustllm.scorers.base import Scorer as Scorer
    from pytest_trustllm.types import Generation as Generation
    from pytest_trustllm.types import Question as Question
    from pytest_trustllm.types import Request as Request
    from pytest_trustllm.types import Response as Response
    from pytest_trustllm.types import Sample as Sample
    from pytest_trustllm.types import Score as Score

_HOME = {
    "BaseProvider": "models.base",
    "Generation": "types",
    "LoadSettings": "models.base",
    "Metric": "metrics.base",
    "ModelSpec": "models.base",
    "Question": "types",
    "Registry": "registry",
    "Request": "types",
    "Response": "types",
    "Sample": "types",
    "Score": "types",
    "Scorer": "scorers.base",
    "TrustLLMError": "errors",
    "TrustModel": "engine.trust_model",
}
__all__ = [
    "BaseProvider",
    "Generation",
    "LoadSettings",
    "Metric",
    "ModelSpec",
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


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one that this function knows

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
