"""The process of one copy of a model: it reads requests from standard input and writes responses to standard output."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.models import frames
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request, Tool


def main() -> None:
    """Load the model and answer until standard input closes."""
    # Ctrl-C reaches the whole process group. Pytest decides what it means, and this process ends with its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the responses
    config = frames.read_pipe(requests)
    if config is None:
        return
    waiting = RequestQueue()
    threading.Thread(target=_read, args=(requests, waiting), name="trustllm-parent", daemon=True).start()
    sys.path[:] = config["sys_path"]
    spec, settings = ModelSpec(**config["spec"]), LoadSettings(**config["settings"])
    answer_requests(spec, settings, waiting, lambda message: _write(responses, message))


def answer_requests(
    spec: ModelSpec, settings: LoadSettings, waiting: RequestQueue, write: Callable[[dict[str, Any]], None]
) -> None:
    """Load a model and answer requests until the queue is closed.

    Args:
        spec: Which model.
        settings: How it is loaded.
        waiting: The requests.
        write: Sends a message: ``info`` once, then ``number`` and ``response``, or ``failed`` once as the last one.
    """
    try:
        from pytest_trustllm.models.local.loaders import load_here

        model = load_here(spec, settings)
        write({"info": dict(model.info)})
        for number, response in model.generate(waiting):
            write({"number": number, "response": dataclasses.asdict(response)})
    except TrustLLMError as e:
        write({"failed": str(e)})
    except Exception as e:  # noqa: BLE001 - whatever a model library raises becomes one line with its type
        write({"failed": f"{type(e).__name__}: {one_line(e)}"})


def _read(stream: IO[bytes], waiting: RequestQueue) -> None:
    """Put requests into the queue as they come; end the process when standard input closes."""
    while (message := frames.read_pipe(stream)) is not None:
        waiting.put(message["number"], request_of(message))
    os._exit(0)  # at once: nobody is there to read what is being computed


def request_of(message: Mapping[str, Any]) -> Request:
    """Return the request of a message; frames carry lists where requests have tuples."""
    settings = dict(message["generation"])
    settings["stop"] = tuple(settings["stop"])
    messages = tuple((role, content) for role, content in message["messages"])
    tools = tuple(Tool(**tool) for tool in message["tools"])
    return Request(messages, Generation(**settings), message["seed"], tools=tools)


def _write(stream: IO[bytes], message: Any) -> None:
    stream.write(frames.encode(message))
    stream.flush()
