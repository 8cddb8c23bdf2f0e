"""What the suites of this distribution name besides the scorers and metrics of pytest-trustllm."""

from __future__ import annotations

from typing import Any


def pytest_trustllm_register(registry: Any) -> None:
    """Add the scorer and the metric of BBQ."""
    registry.scorers.add("bbq_answer", "trustllm_packs.bbq.scoring:BbqAnswer")
    registry.metrics.add("bbq_bias", "trustllm_packs.bbq.scoring:BbqBias")
