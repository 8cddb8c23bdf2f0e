"""The process of one copy of a model: requests come in on standard input, responses leave on standard output."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
from typing import IO, Any

from pytest_trustllm import wire
from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Generation, Request


def main() -> None:
    """Load the model and answer until standard input closes."""
    for signal_ in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; pytest decides what they mean
        signal.signal(signal_, signal.SIG_IGN)
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not talk into the protocol
    config = wire.read_pipe(requests)
    if config is None:
        return
    waiting = Waiting()
    threading.Thread(target=_read, args=(requests, waiting), name="trustllm-parent", daemon=True).start()
    sys.path[:] = config["sys_path"]
    try:
        from pytest_trustllm.models._chat import ChatModel

        model = ChatModel(ModelSpec(**config["spec"]), LoadSettings(**config["settings"]))
        _write(responses, {"info": dict(model.info)})
        for number, response in model.generate(waiting):
            _write(responses, {"number": number, "response": dataclasses.asdict(response)})
    except TrustLLMError as e:
        _write(responses, {"failed": str(e)})
    except Exception as e:  # noqa: BLE001 - whatever a model library raises becomes one line with its name
        _write(responses, {"failed": f"{type(e).__name__}: {one_line(e)}"})


def _read(stream: IO[bytes], waiting: Waiting) -> None:
    while (message := wire.read_pipe(stream)) is not None:
        generation = Generation(**{**message["generation"], "stop": tuple(message["generation"]["stop"])})
        messages = tuple((role, content) for role, content in message["messages"])
        waiting.put(message["number"], Request(messages, generation, message["seed"]))
    os._exit(0)  # nobody is there to read what is being computed


def _write(stream: IO[bytes], message: Any) -> None:
    stream.write(wire.encode(message))
    stream.flush()
