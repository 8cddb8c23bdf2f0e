"""Complete results documents and lines of samples files, as small as they can be."""

from __future__ import annotations

from typing import Any

COVERED = {
    "expected": 1, "collected": 1, "deselected": 0, "scored": 1, "unscored": 0, "errored": 0, "not_applicable": 0,
    "lost": 0,
}  # fmt: skip


def run_entry(**changes: Any) -> dict[str, Any]:
    """Return what a results file records about its run."""
    entry = {
        "id": "run1", "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "model": {"name": "m"}, "seed": 0,
        "epochs": 1, "plugin_version": "0.1.0", "data": {"source": "data.zip", "files": {}}, "roles": {},
        "generation": {}, "task_versions": {}, "selection": "full",
    }  # fmt: skip
    return {**entry, **changes}


def usage_entry(**changes: Any) -> dict[str, Any]:
    """Return what a model was asked and spent."""
    return {"requests": 1, "cached": 0, "input_tokens": 1, "output_tokens": 1, "seconds": 0.5, **changes}


def results(*, run: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return a results document without metrics and gates."""
    document = {
        "schema": "pytest-trustllm/results/1", "run": run_entry(**(run or {})), "metrics": {}, "scores": {},
        "gates": [], "usage": usage_entry(), "samples": None, "coverage": {},
    }  # fmt: skip
    return {**document, **changes}


def metric_entry(value: float | None, **changes: Any) -> dict[str, Any]:
    """Return a metric of one scored sample."""
    entry = {
        "value": value, "parity": value, "ci": None, "confidence": None, "expected": 1, "scored": 1, "unscored": 0,
        "higher_is_better": True, "method": None, "range": [0.0, 1.0],
    }  # fmt: skip
    return {**entry, **changes}


def score_entry(value: float | None, **changes: Any) -> dict[str, Any]:
    """Return the trust score of a dimension without headline metrics."""
    return {"value": value, "ci": None, "confidence": None, "method": None, "of": [], "missing": [], **changes}


def sample_line(**changes: Any) -> dict[str, Any]:
    """Return a line of a samples file."""
    line = {
        "task": "safety/echo", "id": "0000", "fingerprint": "f", "group": {}, "status": "passed", "value": 1.0,
        "answer": None, "reason": None, "observed": {}, "parity": "same", "also": {},
        "prompts": [[["user", "hello"]]], "responses": [{"text": "hello"}], "verdicts": [],
    }  # fmt: skip
    return {**line, **changes}
