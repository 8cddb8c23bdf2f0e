"""Train the demo model from nothing: tokenizer, chat template and weights of ``pytest_trustllm/models/demo_weights``.

    python tools/train_demo.py              # train and replace the packaged weights
    python tools/train_demo.py --check      # train again elsewhere and compare with the packaged weights

The same machine type, package versions and number of threads give the same weights, bit by bit; another CPU may
round differently and then --check says how far apart the weights are.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import demo_corpus
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parents[1] / "pytest_trustllm" / "models" / "demo_weights"
SEED = 20240
THREADS = 2
PAIRS = 80_000
VOCABULARY = 2048
BATCH_TOKENS = 3072
PEAK_RATE = 4e-3
PROMPT_SHARE = 0.2
"""Weight of the loss on the question, next to 1 for the answer."""

SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Example:
    """One question and answer as token ids.

    Attributes:
        ids: Chat with the answer and the end token.
        start: Index of the answer's first token.
    """

    ids: list[int]
    start: int


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer learnt from ``texts``; every digit is a token of its own."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=8192,
        additional_special_tokens=SPECIAL[3:],
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a small Llama with random weights."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[demo_corpus.Pair]) -> list[Example]:
    """Return the pairs as tokens, in the form of the chat template."""
    marks = ("<s>", "<|user|>", "<|assistant|>", "</s>")
    bos, user, assistant, eos = (tokenizer.convert_tokens_to_ids(mark) for mark in marks)
    prompts = tokenizer([p for p, _ in pairs], add_special_tokens=False)["input_ids"]
    answers = tokenizer([a for _, a in pairs], add_special_tokens=False)["input_ids"]
    return [
        Example([bos, user, *prompt, assistant, *answer, eos], len(prompt) + 3)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def batches(examples: Sequence[Example], rng: random.Random) -> Iterator[list[Example]]:
    """Yield batches of about ``BATCH_TOKENS`` tokens, of similar length, in random order."""
    groups: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda e: len(e.ids)):
        if (len(groups[-1]) + 1) * len(example.ids) > BATCH_TOKENS and groups[-1]:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    yield from groups


def tensors(batch: Sequence[Example], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, positions and loss weights of the next token, each (batch, length), right-padded.

    One text in four is spread over the whole range of positions, so that the model has seen far ones.
    """
    width = max(len(e.ids) for e in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    positions = torch.arange(width).repeat(len(batch), 1)
    weights = torch.zeros(len(batch), width - 1)
    for row, example in enumerate(batch):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        weights[row, : n - 1] = PROMPT_SHARE
        weights[row, example.start - 1 : n - 1] = 1.0
        if rng.random() < 0.25:
            for _ in range(3):
                positions[row, rng.randrange(1, n) :] += rng.randrange(2000)
    return ids, positions, weights


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, positions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean loss; padding comes last, so the causal mask is mask enough."""
    hidden = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, :-1]
    used = weights > 0
    logits = model.lm_head(hidden[used])
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][used], reduction="none")
    return (losses * weights[used]).sum() / weights.sum()


def rate(step: int, steps: int) -> float:
    """Return the learning rate: short warm-up, then a cosine down to nothing."""
    warm = max(1, steps // 20)
    if step < warm:
        return PEAK_RATE * (step + 1) / warm
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(model: LlamaForCausalLM, work: Sequence[Sequence[Example]], rng: random.Random) -> None:
    """Go once through the batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    model.train()
    began = time.perf_counter()
    for step, batch in enumerate(work):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, len(work))
        loss = loss_of(model, *tensors(batch, rng))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == len(work) - 1:
            seconds = time.perf_counter() - began
            print(f"step {step + 1}/{len(work)}  loss {loss.item():.3f}  {seconds:.0f} s", flush=True)


def build(out: Path, steps: int | None) -> None:
    """Train and save the model to ``out``."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    pairs = demo_corpus.corpus(SEED, PAIRS if steps is None else 2000)
    tokenizer = make_tokenizer([text for pair in pairs for text in pair])
    model = make_model(tokenizer)
    work = list(batches(encode(tokenizer, pairs), rng))[:steps]
    tokens = sum(len(e.ids) for batch in work for e in batch)
    print(f"{len(pairs)} pairs, {tokens} tokens, {sum(p.numel() for p in model.parameters())} parameters")
    train(model, work, rng)
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.max_new_tokens = None
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def difference(first: Path, second: Path) -> float:
    """Return the greatest difference between two weights of the same name."""
    a, b = (LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).state_dict() for path in (first, second))
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def check(steps: int | None) -> int:
    """Train again in a temporary folder and tell whether the packaged weights come out; 0 if they do."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), steps)
        same = all((Path(folder) / f.name).read_bytes() == f.read_bytes() for f in OUT.iterdir())
        print("equal" if same else f"different: weights differ by up to {difference(OUT, Path(folder)):.4g}")
    return 0 if same else 1


def main() -> int:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to save (default: the package)")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after N steps (for trying the script)")
    parser.add_argument("--check", action="store_true", help="retrain elsewhere and compare with the packaged weights")
    options = parser.parse_args()
    if options.check:
        return check(options.steps)
    if options.out.exists():
        shutil.rmtree(options.out)
    build(options.out, options.steps)
    print(f"saved to {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
