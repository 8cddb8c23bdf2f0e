"""Answers of the slot loop, and of what stands in for it, against those of transformers at batch 1."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.models.base import LoadSettings
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request, Response

torch = pytest.importorskip("torch")

SIZE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 192,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
# class of transformers -> what its configuration needs besides, and whether its prompts can share a block of slots
ARCHITECTURES: dict[str, tuple[dict[str, Any], bool]] = {
    "Llama": ({"num_key_value_heads": 2}, True),
    "Qwen2": ({"num_key_value_heads": 2}, True),
    "Qwen3": ({"num_key_value_heads": 1, "head_dim": 8}, True),
    "GPT2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 192}, True),
    "GPTNeoX": ({}, True),
    "Mixtral": ({"num_key_value_heads": 2, "num_local_experts": 4, "sliding_window": None}, True),
    "Mistral": ({"num_key_value_heads": 2, "sliding_window": 8}, False),
    "Gemma2": ({"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}, False),
    "Bloom": ({"n_layer": 2, "n_head": 4}, False),
    "MiniMax": (
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_local_experts": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "block_size": 16,
        },
        False,
    ),
    "Phi3": (
        {
            "num_key_value_heads": 2,
            "original_max_position_embeddings": 24,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [4.0, 5.0, 6.0, 7.0],
                "original_max_position_embeddings": 24,
                "partial_rotary_factor": 1.0,
            },
        },
        False,
    ),
}
ONE_BY_ONE = {"MiniMax", "Phi3"}


def make(architecture: str, tokenizer: Any, where: Path) -> Path:
    import transformers

    extra, _ = ARCHITECTURES[architecture]
    config = getattr(transformers, f"{architecture}Config")(**{**SIZE, **extra})
    head = "GPT2LMHeadModel" if architecture == "GPT2" else f"{architecture}ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, head)(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[1] *= 2.5  # the end token: answers of many lengths
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


def load(directory: Path, make_spec: Any, batch_size: int | None = None, **options: Any) -> Any:
    return PROVIDER.load(make_spec(directory, **options), LoadSettings(device="cpu", batch_size=batch_size))


def requests(count: int) -> list[Request]:
    draw = random.Random(count)
    words = ["the", "cat", "sat", "on", "a", "mat", "moon", "rain", "wind", "sea", "door", "key", "poem", "one", "two"]
    return [
        Request(
            (("user", " ".join(draw.choices(words, k=int(40 ** draw.random())))),),
            Generation(max_new_tokens=draw.choice([1, 3, 12, 40])),
        )
        for _ in range(count)
    ]


def answers(model: Any, asked: list[Request]) -> list[Response]:
    found = dict(model.generate(RequestQueue.only(asked)))
    assert sorted(found) == list(range(len(asked)))
    return [found[i] for i in range(len(asked))]


def alone(directory: Path, asked: list[Request]) -> list[tuple[str, int]]:
    """Return text and length of every answer as ``generate`` gives it to the prompt alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    found = []
    for request in asked:
        ids = tokenizer(f"<|user|>{request.text}<|end|><|assistant|>", return_tensors="pt", add_special_tokens=False)
        ids.pop("token_type_ids", None)
        out = model.generate(**ids, max_new_tokens=request.generation.max_new_tokens, do_sample=False)
        new = out[0, ids["input_ids"].shape[1] :]
        found.append((tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False), len(new)))
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_of_batch_one(
    architecture: str, llama_directory: Path, tokenizer: Any, tmp_path: Path, make_spec: Any
) -> None:
    directory = make(architecture, tokenizer, tmp_path / "model")
    asked = requests(240 if architecture == "Llama" else 40)
    expected = alone(directory, asked)
    assert len({length for _, length in expected}) > 3
    for batch_size in (None, 7):
        model = load(directory, make_spec, batch_size)
        assert model.info["about"]["batching"] == ("in flight" if ARCHITECTURES[architecture][1] else "static")
        assert (model.info["about"]["batch_size"] == 1) == (architecture in ONE_BY_ONE)
        order = random.Random(0).sample(range(len(asked)), len(asked))
        found = answers(model, [asked[i] for i in order])
        assert [(r.text, r.output_tokens) for r in found] == [expected[i] for i in order]


def test_growing_positions_forget_the_longer_prompts_before(
    llama_directory: Path, tokenizer: Any, tmp_path: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 32, "rope_parameters": rope}
    monkeypatch.setitem(ARCHITECTURES, "Llama", (more, False))
    directory = make("Llama", tokenizer, tmp_path / "model")
    asked = requests(40)[:16]
    model = load(directory, make_spec)
    about = model.info["about"]
    assert (about["batch_size"], model.info["context"]) == (1, 128)
    assert about["batching_reason"] == "dynamic rotary positions: their frequencies follow the longest text"
    # A model that transformers has just loaded has seen no longer prompt.
    expected = [alone(directory, [request])[0] for request in asked]
    lengths = [r.input_tokens or 0 for r in answers(model, asked)]
    assert min(lengths) < 32 < max(lengths)
    assert [(r.text, r.output_tokens) for r in answers(model, asked)] == expected


def test_requests_join_while_others_run(llama_directory: Path, make_spec: Any) -> None:
    model = load(llama_directory, make_spec, 4)

    def ask(text: str, most: int, temperature: float = 0.0) -> Request:
        return Request((("user", text),), Generation(temperature, max_new_tokens=most))

    long, short = ask("the cat sat on the mat", 60, 1.0), ask("a moon", 2)
    (whole,) = answers(model, [long])
    assert whole.output_tokens is not None
    assert whole.output_tokens > 20
    waiting = RequestQueue()
    waiting.put(0, long)
    waiting.put(1, short)
    order = []
    for number, response in model.generate(waiting):
        order.append(number)
        assert response.error is None
        if number == 0:
            assert response.text == whole.text
            waiting.close()
        elif number < 5:  # the long answer is under way: what comes now does not wait for its end
            waiting.put(number + 1, short)
    assert order == [1, 2, 3, 4, 5, 0]


def test_rows_longer_than_all_before_find_room(
    llama_directory: Path, tokenizer: Any, tmp_path: Path, make_spec: Any
) -> None:
    directory = make("Llama", tokenizer, tmp_path / "model")
    model = load(directory, make_spec, 3)
    asked = [Request((("user", "cat " * n),), Generation(max_new_tokens=60)) for n in (1, 2, 3, 60, 120, 2)]
    waiting, found = RequestQueue(), {}
    waiting.put(0, asked[0])
    for number, response in model.generate(waiting):
        found[number] = response
        if number + 1 < len(asked):
            waiting.put(number + 1, asked[number + 1])
        else:
            waiting.close()
    assert [(found[i].text, found[i].output_tokens) for i in range(len(asked))] == alone(directory, asked)


def test_slots_are_as_many_as_the_memory_holds(
    llama_directory: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_trustllm.models.local import slot_loop

    asked = requests(40)
    expected = [r.text for r in answers(load(llama_directory, make_spec), asked)]
    per_token = 2 * 2 * 2 * 12 * 4  # layers, keys and values, heads, size, bytes
    monkeypatch.setattr(slot_loop, "free_memory", lambda device: 5.2 * 128 * per_token / slot_loop._SHARE)
    model, rows = load(llama_directory, make_spec), []
    step = slot_loop.SlotForward.step

    def counted(self: Any, tokens: Any, *args: Any) -> Any:
        rows.append(len(tokens))
        return step(self, tokens, *args)

    monkeypatch.setattr(slot_loop.SlotForward, "step", counted)
    assert [r.text for r in answers(model, asked)] == expected
    assert max(rows[1:]) <= 5
    assert rows.count(5) > 3


def test_sampled_tokens_follow_the_softmax_of_the_model(llama_directory: Path, make_spec: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    temperature, count = 3.0, 4000
    asked = [Request((("user", "the cat"),), Generation(temperature, max_new_tokens=1), seed) for seed in range(count)]
    found = Counter(r.text for r in answers(load(llama_directory, make_spec), asked))
    tokenizer = AutoTokenizer.from_pretrained(llama_directory)
    model = AutoModelForCausalLM.from_pretrained(llama_directory, dtype=torch.float32).eval()
    ids = tokenizer("<|user|>the cat<|end|><|assistant|>", return_tensors="pt", add_special_tokens=False)["input_ids"]
    likely: Counter[str] = Counter()
    for token, p in enumerate(torch.softmax(model(ids).logits[0, -1] / temperature, -1).tolist()):
        likely[tokenizer.decode([token], skip_special_tokens=True)] += p  # type: ignore[assignment]
    # Texts of fewer than five expected answers are pooled, as the chi-square approximation asks.
    often = [text for text, p in likely.items() if p * count >= 5]
    pairs = [(found[text], likely[text] * count) for text in often]
    rest = count - sum(seen for seen, _ in pairs), count - sum(wanted for _, wanted in pairs)
    chi_square = sum((seen - wanted) ** 2 / wanted for seen, wanted in [*pairs, rest] if wanted > 0)
    freedom = len(pairs)
    assert freedom > 20
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5  # about one right sampler in ten thousand exceeds it


def deep_llama(dtype: Any) -> Any:
    """Return a model whose many layers add up rounding, with many logits, some of which are far off by chance."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {**SIZE, "vocab_size": 50_000, "hidden_size": 64, "num_hidden_layers": 24, "initializer_range": 0.2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2)).to(dtype).eval()


def test_rounding_in_bfloat16_is_no_reason_against_slots() -> None:
    from pytest_trustllm.models.local.batching_trial import choose_batching

    assert choose_batching(deep_llama(torch.bfloat16)).method == "slots"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fault", ["hides", "shows", "shifts", "mixes"])
def test_slots_that_compute_something_else_are_not_used(
    dtype: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_trustllm.models.local.batching_trial import choose_batching
    from pytest_trustllm.models.local.slot_loop import SlotForward

    def step(self: Any, tokens: Any, positions: Any, lengths: Any) -> Any:
        if fault == "mixes":  # two rows hold each other's third key
            for layer in self.cache.layers:
                layer.keys[[0, 1], 2] = layer.keys[[1, 0], 2]
        if fault == "shifts":
            inputs = {"input_ids": tokens[:, None], "position_ids": positions[:, None] + 1}
            self.cache.decode(positions, self.cache.length)
            mask = self._mask(positions, self.cache.length)
            return self._model(attention_mask=mask, **inputs, **self._common_inputs).logits[:, -1].float()
        return right_step(self, tokens, positions, lengths)

    def mask(self: Any, positions: Any, width: int) -> Any:
        made = right_mask(self, positions, width)
        for row, position in enumerate(positions.tolist()):
            if fault == "hides":
                made[row, ..., position // 2] = self._hidden
            if fault == "shows" and position + 1 < width:
                made[row, ..., position + 1] = 0
        return made

    right_step, right_mask = SlotForward.step, SlotForward._mask
    monkeypatch.setattr(SlotForward, "step", step)
    monkeypatch.setattr(SlotForward, "_mask", mask)
    found = choose_batching(deep_llama(getattr(torch, dtype)))
    assert (found.method, found.reason) == ("padded", "a trial in flight gave other logits")


def test_near_ties_are_marked_in_reduced_precision_alone(llama_directory: Path, make_spec: Any) -> None:
    asked = requests(60)
    exact = answers(load(llama_directory, make_spec), asked)
    assert {r.near_tie for r in exact} == {None}
    narrow = load(llama_directory, make_spec, dtype="bfloat16")
    assert narrow.info["about"]["batch_effects"] == "possible"
    together = answers(narrow, asked)
    single = answers(load(llama_directory, make_spec, 1, dtype="bfloat16"), asked)
    marked = [r.near_tie is True for r in together]
    assert 0 < sum(marked) < len(asked)
    for one, other, near in zip(single, together, marked, strict=True):
        assert near or one.text == other.text  # what another batch changed had been marked


@pytest.mark.parametrize("architecture", ["Llama", "Mistral"])  # in flight, static
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_logits_that_are_no_numbers_are_no_answer_and_spoil_no_other(
    llama_directory: Path, tokenizer: Any, tmp_path: Path, make_spec: Any, architecture: str, dtype: str
) -> None:
    from transformers import AutoModelForCausalLM

    asked = requests(60)
    asked += [replace(r, generation=replace(r.generation, temperature=1.0), seed=i) for i, r in enumerate(asked)]
    directory = make(architecture, tokenizer, tmp_path / "model")
    whole = answers(load(directory, make_spec, 1, dtype=dtype), asked)
    model = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer(" moon")["input_ids"]] = float("nan")
    model.save_pretrained(directory)
    # no greedy answer of the whole model may come upon the word by itself
    met = [i for i, r in enumerate(whole) if " moon" not in asked[i].text and " moon" not in str(r.text)]
    found = answers(load(directory, make_spec, 4, dtype=dtype), asked)
    lost = [i for i, r in enumerate(asked) if " moon" in r.text]
    assert len(lost) > 10
    assert len(met) > 30
    assert {found[i].error for i in lost} == {"the model's logits are no numbers after 0 tokens; try another dtype"}
    assert all(found[i].error is None for i in met)
    assert dtype != "float32" or [found[i].text for i in met] == [whole[i].text for i in met]


def test_a_near_tie_is_a_few_units_of_rounding() -> None:
    from pytest_trustllm.models.local.sampling import Draft, PreparedPrompt, choose_tokens, rounding_of

    assert rounding_of(torch.float32) == 0
    rounding = rounding_of(torch.bfloat16)
    assert rounding == 2**-7
    logits = torch.tensor([[16.0, 15.8, 0.0], [16.0, 15.7, 0.0], [16.0, 15.8, 0.0]])
    greedy, sampled = Generation(), Generation(1.0)
    drafts = [
        Draft(PreparedPrompt(i, Request((("user", "a"),), g), [1], 4)) for i, g in enumerate((greedy, greedy, sampled))
    ]
    assert choose_tokens(logits, drafts, rounding)[:2].tolist() == [0, 0]
    assert [draft.near_tie for draft in drafts] == [True, False, False]
