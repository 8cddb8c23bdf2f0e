"""A run as logs that Inspect (inspect_ai) reads: one log per task, in its JSON format, version 2.

What does not fit is said, not bent: Inspect's sample is one conversation with a target, ours may be a pair and has a
scorer instead of a target. So the target is empty, and of a pair the second conversation is the sample, the first one
its metadata. A sample without a score has no score there either. Each epoch is a sample of that number, with its own
score. A run that ended early is cancelled there. Metrics are ours, in both readings; Inspect did not compute them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_STOPS = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
_ROLES = frozenset({"system", "user", "assistant"})


def logs(results: Mapping[str, Any], samples: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield file name and log of every task that has samples.

    Args:
        results: The results document.
        samples: The lines of the samples file; those of one task are held at a time.
    """
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        waiting.setdefault(sample["task"], []).append(sample)
    for task, mine in waiting.items():
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in task.replace("/", "-"))
        yield f"{name}.json", json.dumps(_log(task, mine, results), ensure_ascii=True, allow_nan=False) + "\n"


def _log(task: str, samples: list[Mapping[str, Any]], results: Mapping[str, Any]) -> dict[str, Any]:
    run = results["run"]
    model = str(run.get("model", {}).get("name", "unnamed model"))
    ids = [str(s["id"]) for s in samples]
    generation = run.get("generation", {}).get(task, {})
    shown = [one for s in samples for one in _samples(s, model)]
    config = {"temperature": generation.get("temperature"), "max_tokens": generation.get("max_new_tokens")}
    return {
        "version": 2,
        "status": "cancelled" if run.get("stopped") else "success",
        "eval": {
            "run_id": str(run.get("id", "")),
            "created": str(run.get("started", "")),
            "task": task,
            "task_id": f"{run.get('id', '')}-{task}",
            "task_version": run.get("task_versions", {}).get(task, 0),
            "dataset": {"name": task, "samples": len(samples), "sample_ids": ids},
            "model": model,
            "model_generate_config": {k: v for k, v in config.items() if v is not None},
            "config": {"epochs": max((s["epoch"] for s in shown), default=1)},
            "packages": {"pytest-trustllm": str(run.get("plugin_version", ""))},
            "metadata": {"pytest_trustllm": {k: run.get(k) for k in ("seed", "data", "roles", "selection")}},
        },
        "results": {
            "total_samples": len(shown),
            "completed_samples": sum(s["metadata"].get("status") != "error" for s in shown),
            "scores": [_metrics(task, results["metrics"])],
        },
        "samples": shown,
    }


def _metrics(task: str, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the task's metrics without its groups'; one without a value is left out, as Inspect knows no other way."""
    found = {}
    for id_, metric in metrics.items():
        owner, _, name = id_.rpartition(".")
        if owner == task and "{" not in id_:
            for suffix, key in (("", "value"), ("_parity", "parity")):
                if metric[key] is not None:
                    found[name + suffix] = {"name": name + suffix, "value": metric[key]}
    return {"name": "pytest-trustllm", "scorer": "pytest-trustllm", "metrics": found}


def _samples(sample: Mapping[str, Any], model: str) -> Iterator[dict[str, Any]]:
    """Yield a sample, or each of its epochs."""
    epochs = sample.get("epochs")
    if not epochs:
        yield _sample(sample, model)
        return
    for epoch, score in enumerate(epochs):
        also = {task: a["epochs"][epoch] for task, a in (sample.get("also") or {}).items() if a.get("epochs")}
        of_it = {k: [r for r in sample.get(k) or () if r.get("epoch") == epoch] for k in ("responses", "verdicts")}
        yield _sample({**sample, **score, **of_it, "also": also}, model, epoch + 1)


def _sample(sample: Mapping[str, Any], model: str, epoch: int = 1) -> dict[str, Any]:
    prompts, replies = sample.get("prompts") or [[]], sample.get("responses") or [{}]
    reply = replies[-1]
    messages = [{"role": r if r in _ROLES else "user", "content": str(c)} for r, c in prompts[-1]]
    usage = {k: reply.get(k) or 0 for k in ("input_tokens", "output_tokens")}
    found: dict[str, Any] = {
        "id": str(sample["id"]),
        "epoch": epoch,
        "input": messages or "",
        "target": "",
        "messages": messages,
        "output": {"model": model, "choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}},
        "scores": _scores(sample),
        "metadata": _metadata(sample, prompts, replies),
        "model_usage": {model: {**usage, "total_tokens": sum(usage.values())}},
    }
    if reply.get("text") is not None:
        answer = {"role": "assistant", "content": reply["text"], "source": "generate", "model": model}
        stop = _STOPS.get(str(reply.get("finish")), "unknown")
        found["output"]["choices"] = [{"message": answer, "stop_reason": stop}]
        found["messages"] = [*messages, answer]
    if reply.get("error") is not None:
        found["error"] = {"message": str(reply["error"]), "traceback": "", "traceback_ansi": ""}
    return found


def _scores(sample: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for task, score in ((sample["task"], sample), *(sample.get("also") or {}).items()):
        if score.get("value") is not None:
            found[task] = {"value": score["value"], "answer": score.get("answer"), "explanation": score.get("reason")}
    return found


def _metadata(sample: Mapping[str, Any], prompts: Any, replies: Any) -> dict[str, Any]:
    found = {k: sample.get(k) for k in ("status", "reason", "group", "fingerprint", "verdicts") if sample.get(k)}
    if len(prompts) > 1:
        found["first"] = {"prompt": prompts[0], "response": replies[0].get("text")}
    return found
