"""Whether a checkpoint is of the requested kind, and complete: a weight that is not in its files would be random."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_trustllm.config.paths import exists, is_directory, is_file
from pytest_trustllm.errors import ModelError, one_line
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


_MOST: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 10_000),
        **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 10_000),
        **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "num_experts"), 100_000),
        **dict.fromkeys(("num_local_experts", "n_routed_experts"), 100_000),
        **dict.fromkeys(("hidden_size", "n_embd", "d_model", "head_dim"), 10_000_000),
        **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "n_inner"), 100_000_000),
        "vocab_size": 100_000_000,
    }
)
"""Key of a configuration -> a number that no model comes near."""
_BYTES_PER_WEIGHT = 1 / 8
"""Bytes of a weight on disk, at the very least."""


def check_sizes(spec: ModelSpec, config: Mapping[str, Any]) -> None:
    """Refuse a configuration of a size that no model has, or for which a directory has far too few weights.

    Args:
        spec: Which model.
        config: The configuration, as its file has it.

    Raises:
        ModelError: A number in it is wrong.
    """
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key, most in _MOST.items():
            number = part.get(key)
            if isinstance(number, int) and abs(number) > most:
                raise ModelError(
                    f"models: {spec.name!r} cannot be loaded: its configuration says {key}: {one_line(number, 30)}"
                )
        embedding = _product(part, "vocab_size", "hidden_size")
        layers = _product(part, "num_hidden_layers", "hidden_size")
        stored = _stored_bytes(Path(spec.target))
        if stored and max(embedding, layers) * _BYTES_PER_WEIGHT > stored:
            raise ModelError(
                f"models: {spec.name!r} cannot be loaded: its files hold {stored:,} bytes of weights, too few for "
                "the sizes in its configuration"
            )


def _product(config: Mapping[str, Any], *keys: str) -> int:
    """Return the product of the numbers under some keys; 0 if one is missing."""
    product = 1
    for key in keys:
        number = config.get(key)
        product *= number if isinstance(number, int) else 0
    return product


def _stored_bytes(path: Path) -> int:
    """Return the bytes of the weights in a directory; 0 if it has none of its own, as that of an adapter."""
    if not path.is_absolute() or exists(path / "adapter_config.json"):
        return 0
    files = [file for pattern in ("*.safetensors", "*.bin") for file in path.glob(pattern)]
    return sum(file.stat().st_size for file in files)


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
    return any(is_file(path / name) for name in TOKENIZERS)


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
    if not is_directory(path):
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
