"""Random Llamas and prompts for the benchmarks of local models, and the tables they print."""

from __future__ import annotations

import json
import random
import statistics
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import _commands
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# hidden size, layers, heads, key/value heads, inner size, vocabulary
SIZES = {
    "5M": (256, 4, 4, 4, 768, 4096),
    "100M": (768, 12, 12, 12, 2048, 8192),
    "7B": (4096, 32, 32, 32, 11008, 32000),
}
WORDS = ["the", "of", "river", "lamp", "garden", "ladder", "violin", "copper", "morning", "answer", "letter", "bridge"]


def prompts(count: int, data: Path | None, seed: int = 0) -> list[str]:
    """Return prompts of the data set (a zip or nothing), or made-up ones of 5 to 200 words."""
    draw = random.Random(seed)
    if data is None:
        return [" ".join(draw.choices(WORDS, k=int(5 * 40 ** draw.random()))) for _ in range(count)]
    with zipfile.ZipFile(data) as archive:
        rows = [row for name in archive.namelist() if name.endswith(".json") for row in json.loads(archive.read(name))]
    found = [row["prompt"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("prompt"), str)]
    return draw.sample(found, count)


def make(where: Path, size: str, texts: Sequence[str], *, ending: float, dtype: torch.dtype = torch.float32) -> Path:
    """Save a Llama with random weights and a tokenizer trained on the prompts.

    Args:
        where: Directory to make.
        size: Key of ``SIZES``.
        texts: What to train the tokenizer on.
        ending: Scale of the end token's output weights: 0: answers never end by themselves; the greater, the sooner.
        dtype: Of the weights.
    """
    hidden, layers, heads, shared, inner, vocabulary = SIZES[size]
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<end>"]
    bare.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=min(vocabulary, 4096), special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<end>")
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=4096,
        initializer_range=0.1,  # wide: greedy answers wander instead of repeating one token
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(dtype)
    with torch.no_grad():
        model.lm_head.weight[1] *= ending
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


def interleaved(
    ways: Mapping[str, Callable[[], int]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Run every way once a round, A B A B, and return output tokens per second of each."""
    paces: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            began = clock()
            tokens = way()
            pace = tokens / (clock() - began)
            paces[name].append(pace)
            print(f"round {number + 1}: {name}: {pace:,.1f} tokens/s", file=sys.stderr)
    return paces


def table(title: str, found: Mapping[str, Sequence[float]], base: str, unit: str = "tokens/s") -> str:
    """Return a Markdown table of medians, with ratios to one of the rows."""
    middle = {name: statistics.median(values) for name, values in found.items()}
    lines = [f"**{title}**", "", f"| | {unit}, median (least to greatest) | ratio |", "|---|---|---|"]
    for name, values in found.items():
        spread = f"{middle[name]:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        lines.append(f"| {name} | {spread} | {middle[name] / middle[base]:.2f} |")
    return "\n".join([*lines, "", machine()])


def machine() -> str:
    """Return a line about machine and versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    return _commands.machine(device, ("torch", "transformers", "lm-eval", "pytest"))
