"""A run as logs that Inspect (inspect_ai) reads: one log per task, in its JSON format, version 2.

What does not fit Inspect's format is left out. Inspect's sample is one conversation with a target; ours may be a pair,
and has a scorer instead of a target. So the target is empty, and the second conversation of a pair is the sample, with
the first one in its metadata. An unscored sample has no score. Each epoch is a sample with that epoch number and its
own score. A run that ended early has the status ``cancelled``. The metrics, in both readings, are computed by
pytest-trustllm, not by Inspect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_trustllm.formats import MetricEntry, ResponseEntry, Results, RunEntry, SampleLine, ScoreEntry
from pytest_trustllm.results.identity import generation_of

_STOPS = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
_ROLES = frozenset({"system", "user", "assistant"})
Json = dict[str, Any]
"""A mapping of Inspect's format; Inspect's own documentation has its keys."""


def logs(results: Results, samples: Iterable[SampleLine]) -> Iterator[tuple[str, str]]:
    """Yield the file name and the log of every task that has samples.

    Args:
        results: The results document.
        samples: The lines of the samples file. They are read once, and all of them are held in memory.
    """
    by_task: dict[str, list[SampleLine]] = {}
    for sample in samples:
        by_task.setdefault(sample["task"], []).append(sample)
    for task, lines in by_task.items():
        log = json.dumps(_log(task, lines, results), ensure_ascii=True, allow_nan=False)
        yield f"{_stem(task)}.json", f"{log}\n"


def _stem(task: str) -> str:
    """Return a task's name with punctuation replaced, for a file name."""
    stem = ""
    for char in task.replace("/", "-"):
        stem += char if char.isalnum() or char in "_-" else "_"
    return stem


def _log(task: str, lines: Sequence[SampleLine], results: Results) -> Json:
    run = results["run"]
    samples: list[Json] = []
    for line in lines:
        samples += _samples(line, run["model"]["name"])
    completed = [sample for sample in samples if sample["metadata"]["status"] != "error"]
    epochs = max(sample["epoch"] for sample in samples)
    return {
        "version": 2,
        "status": "cancelled" if run.get("stopped") else "success",
        "eval": _header(task, [line["id"] for line in lines], epochs, run),
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(completed),
            "scores": [_metrics(task, results["metrics"])],
        },
        "samples": samples,
    }


def _header(task: str, ids: Sequence[str], epochs: int, run: RunEntry) -> Json:
    config: Json = {}
    generation = generation_of(run, task)  # a task that reads another one's responses has none
    if generation is not None:
        config = {"temperature": generation["temperature"], "max_tokens": generation["max_new_tokens"]}
    facts = {"seed": run["seed"], "data": run["data"], "roles": run["roles"], "selection": run["selection"]}
    return {
        "run_id": run["id"],
        "created": run["started"],
        "task": task,
        "task_id": f"{run['id']}-{task}",
        "task_version": run["task_versions"].get(task, 0),
        "dataset": {"name": task, "samples": len(ids), "sample_ids": ids},
        "model": run["model"]["name"],
        "model_generate_config": config,
        "config": {"epochs": epochs},
        "packages": {"pytest-trustllm": run["plugin_version"]},
        "metadata": {"pytest_trustllm": facts},
    }


def _metrics(task: str, metrics: Mapping[str, MetricEntry]) -> Json:
    """Return the metrics of a task, without those of its groups."""
    entries: Json = {}
    for id_, metric in metrics.items():
        owner, _, name = id_.rpartition(".")
        if owner != task or "{" in id_:
            continue
        readings = {name: metric["value"], f"{name}_parity": metric["parity"]}
        for key, value in readings.items():
            if value is not None:  # Inspect requires a number
                entries[key] = {"name": key, "value": value}
    return {"name": "pytest-trustllm", "scorer": "pytest-trustllm", "metrics": entries}


def _samples(line: SampleLine, model: str) -> Iterator[Json]:
    """Yield the sample; in a run of several epochs, one sample per epoch."""
    epochs = line.get("epochs", ())
    if not epochs:
        yield _sample(line, model)
    for number, score in enumerate(epochs):
        also = {task: other["epochs"][number] for task, other in line["also"].items() if other.get("epochs")}
        responses = _of_epoch(line.get("responses", ()), number)
        verdicts = _of_epoch(line.get("verdicts", ()), number)
        epoch: SampleLine = {**line, **score, "also": also, "responses": responses, "verdicts": verdicts}
        if line.get("talks"):
            epoch["talks"] = line["talks"][number : number + 1]
        # ours count from 0, Inspect's from 1
        yield _sample(epoch, model, number + 1)


def _of_epoch(responses: Iterable[ResponseEntry], number: int) -> list[ResponseEntry]:
    return [response for response in responses if response.get("epoch") == number]


def _sample(line: SampleLine, model: str, epoch: int = 1) -> Json:
    prompts = line.get("prompts")
    responses = line.get("responses")
    messages: list[Json] = []
    if prompts:
        messages = _messages(_before_last_response(line) or prompts[-1])
    sample: Json = {
        "id": line["id"],
        "epoch": epoch,
        "input": messages or "",
        "target": "",
        "messages": messages,
        "output": {"model": model, "choices": [], "usage": _usage(None)},
        "scores": _scores(line),
        "metadata": _metadata(line),
        "model_usage": {model: _usage(None)},
    }
    if responses:
        _add_response(sample, responses[-1], model)
    return sample


def _before_last_response(line: SampleLine) -> Sequence[Sequence[str]]:
    """Return what was said in a conversation before the last response; nothing if the sample is no conversation."""
    talks, responses = line.get("talks"), line.get("responses")
    if not talks or not responses:
        return ()
    return talks[-1][: responses[-1].get("at", 0)]


def _messages(chat: Sequence[Sequence[str]]) -> list[Json]:
    messages: list[Json] = []
    calls: list[Json] = []
    for role, content in chat:
        if role == "tool_call":
            calls.append(_call(messages, content))
            continue
        if role == "tool":
            call = calls.pop(0) if calls else {"id": "", "function": ""}
            messages.append(
                {"role": "tool", "content": content, "tool_call_id": call["id"], "function": call["function"]}
            )
            continue
        # a chat template may have roles that Inspect rejects
        inspect_role = role if role in _ROLES else "user"
        messages.append({"role": inspect_role, "content": content})
    return messages


def _call(messages: list[Json], content: str) -> Json:
    """Add a call of a tool to the assistant's message before it, which it may have to make, and return it."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    call = json.loads(content)
    made = messages[-1].setdefault("tool_calls", [])
    arguments = call["arguments"] if isinstance(call["arguments"], dict) else {"arguments": call["arguments"]}
    made.append({"id": f"call{len(messages)}-{len(made)}", "function": call["name"], "arguments": arguments})
    added: Json = made[-1]
    return added


def _usage(response: ResponseEntry | None) -> Json:
    input_tokens = 0
    output_tokens = 0
    if response is not None:
        input_tokens = response.get("input_tokens", 0)
        output_tokens = response.get("output_tokens", 0)
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def _add_response(sample: Json, response: ResponseEntry, model: str) -> None:
    """Add a response to a sample in Inspect's format."""
    usage = _usage(response)
    if "reasoning_tokens" in response:
        usage["reasoning_tokens"] = response["reasoning_tokens"]
    sample["output"]["usage"] = usage
    sample["model_usage"] = {model: dict(usage)}
    content = _content(response)
    if content is not None:
        answer = {"role": "assistant", "content": content, "source": "generate", "model": model}
        stop = _STOPS.get(response.get("finish", ""), "unknown")
        sample["output"]["choices"] = [{"message": answer, "stop_reason": stop}]
        sample["messages"] = [*sample["messages"], answer]
    if "error" in response:
        sample["error"] = {"message": response["error"], "traceback": "", "traceback_ansi": ""}


def _content(response: ResponseEntry) -> str | list[Json] | None:
    """Return the content of the assistant's message: the answer, preceded by the reasoning if there is any."""
    text = response["text"]
    reasoning = response.get("reasoning")
    if not reasoning:
        return text
    parts: list[Json] = [{"type": "reasoning", "reasoning": reasoning}]
    if text is not None:
        parts.append({"type": "text", "text": text})
    return parts


def _scores(line: SampleLine) -> Json:
    scores: dict[str, ScoreEntry] = {line["task"]: line, **line["also"]}
    entries: Json = {}
    for task, score in scores.items():
        if score["value"] is not None:
            entries[task] = {"value": score["value"], "answer": score["answer"], "explanation": score["reason"]}
    return entries


def _metadata(line: SampleLine) -> Json:
    facts: Json = {
        "status": line["status"],
        "reason": line["reason"],
        "group": line["group"],
        "fingerprint": line["fingerprint"],
        "verdicts": line.get("verdicts"),
    }
    metadata = {key: value for key, value in facts.items() if value}
    prompts = line.get("prompts", [])
    if len(prompts) > 1:
        responses = line.get("responses")
        first_answer = responses[0]["text"] if responses else None
        metadata["first"] = {"prompt": prompts[0], "response": first_answer}
    return metadata
