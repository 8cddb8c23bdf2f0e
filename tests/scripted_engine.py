"""An engine with an OpenAI-compatible API that fails on request: ``python scripted_engine.py DIR --port N --model M``.

It takes the command lines of vLLM, SGLang and llama.cpp as well, with DIR in ENGINE_DIRECTORY.

It answers a prompt with the prompt reversed. What happens is noted in files of DIR: ``starts`` (process id, port,
device and arguments of every start), ``ends`` (those that got SIGTERM), ``prompts``, ``children`` (processes that it
leaves behind), ``answered-by`` (the process id, once for every prompt). What shall happen is written there beforehand
as a number: ``die`` and ``hang`` (after so many answers, once), ``die-always`` (each time, after so many), ``taken``
(so many starts find their port taken), ``slow`` (seconds of each answer).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOCK = threading.Lock()


def read_number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except OSError:
        return None


def note(directory: Path, name: str, line: str) -> None:
    with (directory / name).open("a") as file:
        file.write(line + "\n")


class Engine(ThreadingHTTPServer):
    daemon_threads = True
    answered = 0
    hangs = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine
    arguments: argparse.Namespace

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send(200, {})
        elif self.path == "/v1/models":
            self.send(200, {"data": [{"id": self.arguments.serves or self.arguments.model}]})
        else:
            self.send(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        if self.headers["Authorization"] != f"Bearer {self.arguments.key}":
            self.send(401, {"error": {"message": "wrong key"}})
            return
        if prompt != "Hi":
            self.misbehave()
        while self.server.hangs:
            time.sleep(0.1)
        time.sleep(read_number(self.arguments.directory / "slow") or 0)
        message = {"role": "assistant", "content": self.arguments.says or prompt[::-1]}
        choice = {"finish_reason": "stop", "message": message}
        if body.get("logprobs"):
            gap = 0.0625 if "7" in prompt else 3.0
            choice["logprobs"] = {"content": [{"top_logprobs": [{"logprob": -0.5}, {"logprob": -0.5 - gap}]}]}
        self.send(200, {"model": body["model"], "choices": [choice]})
        if prompt != "Hi":
            note(self.arguments.directory, "prompts", prompt)
            note(self.arguments.directory, "answered-by", str(os.getpid()))

    def misbehave(self) -> None:
        """Die or hang, if the files say so."""
        directory: Path = self.arguments.directory
        with LOCK:
            for name in ("die", "hang", "die-always"):
                after = read_number(directory / name)
                if after is None or self.server.answered < after:
                    continue
                if name != "die-always":
                    (directory / name).unlink()
                if name == "hang":
                    self.server.hangs = True
                else:
                    print(
                        "(engine pid=1) ERROR 01-01 [core.py:1] torch.OutOfMemoryError: CUDA out of memory", flush=True
                    )
                    os._exit(9)
            self.server.answered += 1

    def send(self, status: int, document: object) -> None:
        data = json.dumps(document).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            pass


def key_of(config: Path | None) -> str | None:
    """Return the key, which each engine takes in a way of its own."""
    if config is not None:
        return config.read_text().removeprefix("api-key:").strip()
    for name in ("ENGINE_KEY", "VLLM_API_KEY", "LLAMA_API_KEY"):
        if os.environ.get(name):
            return os.environ[name]
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", "--model-path")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--serves")
    parser.add_argument("--says")
    arguments, rest = parser.parse_known_args()
    directory = arguments.directory = Path(os.environ.get("ENGINE_DIRECTORY") or rest[0])
    arguments.key = key_of(arguments.config)
    if arguments.model is None:  # vllm serve MODEL
        arguments.model = rest[rest.index("serve") + 1]
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    note(directory, "starts", f"{os.getpid()} {arguments.port} {device} {' '.join(sys.argv[1:])}")
    taken = read_number(directory / "taken") or 0
    if taken:
        (directory / "taken").write_text(str(taken - 1))
        sys.exit("OSError: [Errno 98] Address already in use")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    note(directory, "children", str(child.pid))
    signal.signal(signal.SIGTERM, lambda *_: (note(directory, "ends", str(os.getpid())), os._exit(0)))
    Handler.arguments = arguments
    Engine(("127.0.0.1", arguments.port), Handler).serve_forever(0.02)


if __name__ == "__main__":
    main()
