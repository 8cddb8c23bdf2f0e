"""Train the demo model from nothing: tokenizer, chat template and weights of ``pytest_trustllm/models/demo_weights``.

    python tools/train_demo.py              # train and replace the packaged weights
    python tools/train_demo.py --check      # train again elsewhere and compare with the packaged model

The same processor type and package versions give the same files, bit by bit. Another processor may round differently;
then --check compares the answers.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import demo_corpus
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parents[1] / "pytest_trustllm" / "models" / "demo_weights"
SEED = 20240
THREADS = 1
"""One thread is the quicker on a busy machine, and sums in the same order everywhere."""
COMPARING = 25_000
"""Pairs that go first and only compare a claim with a paragraph: among other forms it is not learnt."""
PAIRS = 110_000
VOCABULARY = 3072
"""Tokens of the byte-pair encoding; the phrases come on top."""
PHRASE_SHARE = 1 / 500
"""A phrase in at least this share of the pairs is a token: what every question of a form has in common."""
BATCH_TOKENS = 1024
ANSWER_COUNT = 15
"""A sentence that is only ever answered, and this often, is a token too: an answer ends as it began."""
PEAK_RATE = 1e-3
SPREAD = 0.08
"""Standard deviation of the first weights; with the usual 0.02 so narrow a model looks at nothing for long."""
SHARPNESS = 1.5
"""Factor of the logits after training: sampled answers keep closer to the likeliest one."""

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


def parts(text: str) -> set[str]:
    """Return the lines and sentences of four words and more."""
    found = {*text.split("\n"), *re.findall(r"[^.!?:;\n]+[.!?:;\n]?", text)}
    return {part for part in found if part.count(" ") >= 3}


def phrases(pairs: Sequence[demo_corpus.Pair]) -> list[str]:
    """Return what questions of a form have in common, and the answers that occur in no question."""
    asked = Counter(part for prompt, _ in pairs for part in parts(prompt))
    answered = Counter(part for _, answer in pairs for part in parts(answer))
    often = {part for part, count in asked.items() if count >= PHRASE_SHARE * len(pairs)}
    often |= {part for part, count in answered.items() if count >= ANSWER_COUNT and part not in asked}
    return sorted(often)


def make_tokenizer(pairs: Sequence[demo_corpus.Pair]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer learnt from the pairs; every digit and every frequent phrase is a token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([text for pair in pairs for text in pair], trainer)
    core.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases(pairs)])
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
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=8192,
        initializer_range=SPREAD,
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
    """Yield batches of about ``BATCH_TOKENS`` tokens, in random order.

    Lengths in a batch differ by half at most: enough to mix the forms, not so much that padding costs more.
    """
    groups: list[list[Example]] = [[]]
    widest = 0
    for example in sorted(examples, key=lambda e: len(e.ids) * rng.uniform(1.0, 1.5)):
        widest = max(widest, len(example.ids))
        if (len(groups[-1]) + 1) * widest > BATCH_TOKENS and groups[-1]:
            groups.append([])
            widest = len(example.ids)
        groups[-1].append(example)
    rng.shuffle(groups)
    yield from groups


def tensors(batch: Sequence[Example], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, positions and which next tokens belong to an answer, each (batch, length), right-padded.

    One text in eight is spread over the whole range of positions, so that the model has seen far ones.
    """
    width = max(len(e.ids) for e in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    positions = torch.arange(width).repeat(len(batch), 1)
    answers = torch.zeros(len(batch), width - 1, dtype=torch.bool)
    for row, example in enumerate(batch):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        answers[row, example.start - 1 : n - 1] = True
        if rng.random() < 0.125:
            for _ in range(3):
                positions[row, rng.randrange(1, n) :] += rng.randrange(2000)
    return ids, positions, answers


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, positions: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of the answers' tokens; padding comes last, so the causal mask is mask enough."""
    hidden = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[answers]), ids[:, 1:][answers])


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
    few = steps is not None
    comparing = demo_corpus.corpus(SEED + 1, 500 if few else COMPARING, [(demo_corpus.external, 1)])
    pairs = demo_corpus.corpus(SEED, 2000 if few else PAIRS)
    tokenizer = make_tokenizer(pairs)
    model = make_model(tokenizer)
    stages = (batches(encode(tokenizer, stage), rng) for stage in (comparing, pairs))
    work = [batch for stage in stages for batch in stage][:steps]
    tokens = sum(len(e.ids) for batch in work for e in batch)
    print(
        f"{len(comparing) + len(pairs)} pairs, {tokens} tokens, {sum(p.numel() for p in model.parameters())} parameters"
    )
    train(model, work, rng)
    model.model.norm.weight.data *= SHARPNESS
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.max_new_tokens = None
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a saved model in float32, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def difference(first: LlamaForCausalLM, second: LlamaForCausalLM) -> float:
    """Return the greatest difference between two weights of the same name."""
    a, b = first.state_dict(), second.state_dict()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the greedy answers to the sample items."""
    found = []
    for prompt in (prompt for prompts in demo_corpus.sample_prompts() for prompt in prompts):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            out = model.generate(**chat, max_new_tokens=64, do_sample=False)
        found.append(tokenizer.decode(out[0, chat["input_ids"].shape[1] :], skip_special_tokens=True))
    return found


def check(steps: int | None) -> int:
    """Train again in a temporary folder and compare with the packaged model.

    Returns:
        0 if the files are the same or all greedy answers to the sample items are, else 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)
        build(built, steps)
        changed = [file.name for file in sorted(OUT.iterdir()) if (built / file.name).read_bytes() != file.read_bytes()]
        if not changed:
            print("equal, bit by bit")
            return 0
        (packaged, tokens), (trained, new_tokens) = load(OUT), load(built)
        print(f"other bytes: {', '.join(changed)}")
        if tokens.get_vocab() != new_tokens.get_vocab():
            print("other tokens: the words or the forms have changed")
            return 1
        print(f"weights differ by up to {difference(packaged, trained):.3g}")
        pairs = list(zip(greedy(packaged, tokens), greedy(trained, new_tokens), strict=True))
        same = sum(old == new for old, new in pairs)
        print(f"{same} of {len(pairs)} greedy answers to the sample items are the same")
        return 0 if same == len(pairs) else 1


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
