"""What the engines need to be started: how each of them is called, and takes its port and its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_trustllm.types import NOTHING


@dataclass(frozen=True, slots=True)
class Preset:
    """How an engine is started, with ``{names}`` in place of what differs between models and replicas.

    Attributes:
        engine: Its name, for people.
        executable: Its program, unless the entry names another.
        command: Program and arguments; an argument whose name has no value is left out, with the one before it.
        distribution: Python distribution that holds it; its version is part of the key of stored answers.
        environment: Variables of the server.
        settings_file: Content of the private file ``{settings}``, for an engine that takes a key no other way.
        install: What to do if the program is missing.
    """

    engine: str
    executable: str
    command: tuple[str, ...]
    distribution: str
    environment: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    settings_file: str = ""
    install: str = ""


VLLM = Preset(
    engine="vLLM",
    executable="vllm",
    # The checkpoint's own sampling defaults, such as a repetition penalty, would change greedy answers
    command=(
        *("{executable}", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
        *("--revision", "{revision}", "--tensor-parallel-size", "{tensor_parallel}", "--generation-config", "vllm"),
    ),
    distribution="vllm",
    environment={"VLLM_API_KEY": "{key}", "VLLM_NO_USAGE_STATS": "1"},
    install="pip install vllm",
)
"""Source: https://docs.vllm.ai/en/latest/cli/serve/"""

SGLANG = Preset(
    engine="SGLang",
    executable="python3",
    command=(
        *("{executable}", "-m", "sglang.launch_server", "--config", "{settings}", "--model-path", "{model}"),
        *("--host", "127.0.0.1", "--port", "{port}", "--revision", "{revision}", "--tp-size", "{tensor_parallel}"),
        *("--sampling-defaults", "openai"),
    ),
    distribution="sglang",
    settings_file="api-key: {key}\n",
    install="pip install sglang, and name the Python that has it under 'executable'",
)
"""Source: https://docs.sglang.ai/advanced_features/server_arguments.html"""

LLAMACPP = Preset(
    engine="llama.cpp",
    executable="llama-server",
    command=(
        *("{executable}", "--model", "{model}", "--alias", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
        *("--no-webui", "--jinja"),
    ),
    distribution="",
    environment={"LLAMA_API_KEY": "{key}"},
    install="see https://github.com/ggml-org/llama.cpp",
)
"""Source: https://github.com/ggml-org/llama.cpp/tree/master/tools/server"""

BY_ENGINE = {preset.engine: preset for preset in (VLLM, SGLANG, LLAMACPP)}
