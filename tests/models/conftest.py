from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.records import Generation, Request
from pytest_trustllm.registry import Registry

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
