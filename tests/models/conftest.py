from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.registry import Registry
from pytest_trustllm.types import Generation, Request

TEXTS = [
    "the cat sat on the mat and looked at the moon",
    "how do I open a locked door without a key?",
    "please write a short poem about rain, wind and the sea",
    "I cannot help with that request, I am sorry",
    "one two three four five six seven eight nine ten",
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def settings() -> LoadSettings:
    return LoadSettings(device="cpu")


def ask(text: str, **generation: Any) -> Request:
    seed = generation.pop("seed", 0)
    return Request((("user", text),), Generation(**generation), seed)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A real byte-level BPE tokenizer, trained here on a few sentences."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(TEXTS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<|end|>")


@pytest.fixture(scope="session")
def llama_directory(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama with random weights, saved as anybody would save one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # on a busy machine the threads of so small a model mostly wait for each other
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.6,  # wide, so that the likeliest token is not a near-tie
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    where = tmp_path_factory.mktemp("models") / "tiny-llama"
    LlamaForCausalLM(config).save_pretrained(where)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., ModelSpec]:
    def make(directory: Path, **kwargs: Any) -> ModelSpec:
        kind = kwargs.pop("kind", "chat")
        revision = kwargs.pop("revision", None)
        return ModelSpec(f"hf:{directory.name}", "hf", str(directory), revision, kind, kwargs)

    return make


class Script:
    """A real HTTP server on loopback that answers as told.

    Attributes:
        url: Its address.
        seen: (path, headers, JSON body) of every request.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self._reply: Callable[[str, Any, int], tuple[int, dict[str, str], bytes]] = lambda *_: (500, {}, b"")
        self._lock = threading.Lock()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with script._lock:
                    script.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    number = len(script.seen)
                status, headers, data = script._reply(self.path, body, number)
                with contextlib.suppress(ConnectionError):  # the client may have given up
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def reply(self, how: Callable[[str, Any, int], tuple[int, dict[str, str], Any]]) -> None:
        """Answer (path, body, number of the request from 1) with (status, headers, JSON or bytes)."""

        def encoded(path: str, body: Any, number: int) -> tuple[int, dict[str, str], bytes]:
            status, headers, data = how(path, body, number)
            return status, headers, data if isinstance(data, bytes) else json.dumps(data).encode()

        self._reply = encoded

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Script]:
    script = Script()
    yield script
    script.stop()
