"""Whether a checkpoint is of the requested kind, and complete: a weight that is not in its files would be random."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import ModelSpec

ADAPTER = "adapter_config.json"
"""The file in which peft describes an adapter."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")
"""Files by which a tokenizer is known."""
ELSEWHERE = "use an engine that runs it, such as 'vllm:<model>'"
"""What to do with a model that is not run here."""
_NO_CHAT = {
    "ForMaskedLM": "fills gaps in a text",
    "ForSequenceClassification": "labels texts",
    "ForTokenClassification": "labels words",
    "ForQuestionAnswering": "marks answers in a text",
    "ForMultipleChoice": "chooses among texts",
}
"""Ending of an architecture's name -> what it does instead of continuing a text."""
_HASHED = (
    "*.safetensors",
    "*.bin",
    "*.json",
    "*.model",
    "*.txt",
    "*.jinja",
    "*.py",
    "additional_chat_templates/*.jinja",
)
"""Files of a model directory that can change an answer."""
_SHOWN = 3
"""Names of missing weights that a message lists."""
GGUF_WAYS = (
    "a GGUF file is not run by transformers; use 'llamacpp:<path of the file>', or convert it: "
    "AutoModelForCausalLM.from_pretrained(<directory>, gguf_file=<file>).save_pretrained(<new directory>), "
    "and the same for AutoTokenizer"
)


def check_kind(spec: ModelSpec, config: Any) -> None:
    """Reject a model whose configuration shows that it cannot take its role.

    Raises:
        ModelError: It is an encoder-decoder, or a chat model that does not continue texts.
    """
    if getattr(config, "is_encoder_decoder", False) and spec.kind in ("chat", "embedder"):
        raise ModelError(
            f"models: {spec.name!r} cannot be loaded: {type(config).__name__} describes an encoder-decoder, "
            f"which is not run here; {ELSEWHERE}, or call it in a function and use 'python:<module>:<callable>'"
        )
    if spec.kind != "chat":
        return
    for architecture in getattr(config, "architectures", None) or ():
        for ending, does in _NO_CHAT.items():
            # The auto class would load it all the same, with a random head.
            if architecture.endswith(ending):
                raise ModelError(
                    f"models: {spec.name!r} cannot be loaded: {architecture} {does} and is not a chat model; "
                    "give one that ends in 'ForCausalLM'"
                )


def check_weights(spec: ModelSpec, model: Any, report: Mapping[str, Any], supplied: Sequence[str] = ()) -> None:
    """Reject a model of which a part was not in its files.

    Args:
        spec: Which model.
        model: As loaded.
        report: Loading info of transformers: ``missing_keys``, ``mismatched_keys``.
        supplied: Parts of names of weights that an adapter brings.

    Raises:
        ModelError: Weights are missing or of another shape, and would be random.
    """
    # Buffers are computed again from the configuration.
    buffers = {name for name, _ in model.named_buffers()}
    missing = []
    for name in sorted(report["missing_keys"]):
        # An embedding is the mean of the tokens, for which no pooler is needed.
        is_pooler = spec.kind == "embedder" and name.startswith("pooler.")
        is_supplied = any(part in name.split(".") for part in supplied)
        if name not in buffers and not is_pooler and not is_supplied:
            missing.append(name)
    architecture = type(model).__name__
    if missing:
        count = f"{len(missing)} of its {len(list(model.named_parameters()))} weights"
        raise ModelError(
            f"models: {spec.name!r} cannot be loaded: {_listed(missing)} would be random, because its files lack "
            f"{count}; give a complete checkpoint of {architecture}"
        )
    if report["mismatched_keys"]:
        name, stored_shape, configured_shape = min(report["mismatched_keys"])
        raise ModelError(
            f"models: {spec.name!r} cannot be loaded: {name} has the shape {tuple(stored_shape)} in its files and "
            f"{tuple(configured_shape)} by its configuration, and would be random; "
            f"give a complete checkpoint of {architecture}"
        )


def check_files(spec: ModelSpec) -> None:
    """Name the ways to use a GGUF file, which transformers does not read by itself.

    Raises:
        ModelError: The target is a GGUF file, or a directory that holds no other weights.
    """
    path = Path(spec.target)
    is_gguf = path.suffix.lower() == ".gguf"
    if is_gguf or (path.is_absolute() and _has_only_gguf(path)):
        raise ModelError(f"models: {spec.name!r} cannot be loaded: {GGUF_WAYS}")


def has_tokenizer(path: Path) -> bool:
    """Tell whether a directory holds a tokenizer."""
    return any((path / name).is_file() for name in TOKENIZERS)


def hash_directory(path: Path) -> str:
    """Return a hash of a model directory: weights, tokenizer, configuration, code."""
    files = {file for pattern in _HASHED for file in path.glob(pattern)}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode())
        digest.update(_file_digest(file))
    return digest.hexdigest()[:32]


def hash_file(path: Path) -> str:
    """Return a hash of a model that is a single file."""
    return _file_digest(path).hex()[:32]


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _has_only_gguf(path: Path) -> bool:
    """Tell whether a directory's weights are in GGUF files alone."""
    if not path.is_dir():
        return False
    endings = {file.suffix.lower() for file in path.iterdir()}
    return ".gguf" in endings and not endings & {".safetensors", ".bin"}


def _listed(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    listed = list(names)
    shown = ", ".join(listed[:_SHOWN])
    more = len(listed) - _SHOWN
    if more <= 0:
        return shown
    return f"{shown} and {more} more"
