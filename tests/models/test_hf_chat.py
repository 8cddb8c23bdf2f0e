from __future__ import annotations

import functools
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request, Response

pytest.importorskip("torch")

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "looked",
    "at",
    "moon",
    "rain",
    "wind",
    "sea",
    "door",
    "key",
    "poem",
    "one",
    "two",
    "three",
    "four",
    "five",
]


SMALL: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def requests(count: int, temperature: float = 0.0, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(
            (("user", " ".join(draw.choices(WORDS, k=draw.randint(1, 20)))),),
            Generation(temperature=temperature, max_new_tokens=draw.choice([4, 12, 24])),
            seed=draw.randrange(2**63) if temperature else 0,
        )
        for _ in range(count)
    ]


def answers(model: Any, asked: Sequence[Request]) -> list[Response]:
    found = dict(model.generate(RequestQueue.only(asked)))
    assert sorted(found) == list(range(len(asked)))
    return [found[i] for i in range(len(asked))]


def essence(found: Sequence[Response]) -> list[tuple[str | None, int | None, str | None]]:
    return [(r.text, r.output_tokens, r.finish) for r in found]


@pytest.fixture(scope="module")
def model(llama_directory: Path, make_spec: Callable[..., ModelSpec]) -> Any:
    return PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu"))


@pytest.mark.parametrize("batch", [3, 64])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_batch(
    llama_directory: Path, make_spec: Callable[..., ModelSpec], temperature: float, batch: int
) -> None:
    asked = requests(16, temperature)
    alone = PROVIDER.load(make_spec(llama_directory, batch_size=1), LoadSettings(device="cpu"))
    together = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu", batch_size=batch))
    expected = essence(answers(alone, asked))
    order = random.Random(batch).sample(range(len(asked)), len(asked))
    shuffled = essence(answers(together, [asked[i] for i in order]))
    assert [shuffled[order.index(i)] for i in range(len(asked))] == expected
    assert len({text for text, _, _ in expected}) > 5


def test_greedy_and_sampled_rows_share_a_batch(model: Any) -> None:
    greedy, sampled = requests(6), requests(6, 1.0, seed=1)
    mixed = essence(answers(model, [r for pair in zip(greedy, sampled, strict=True) for r in pair]))
    assert mixed[::2] == essence(answers(model, greedy))
    assert mixed[1::2] == essence(answers(model, sampled))


def test_the_seed_alone_decides_a_sampled_answer(model: Any) -> None:
    def ask(seed: int, temperature: float = 1.0) -> str | None:
        generation = Generation(temperature, max_new_tokens=12)
        return answers(model, [Request((("user", "the cat"),), generation, seed)])[0].text

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(8)}) > 4
    assert ask(5, temperature=1e-4) == ask(6, temperature=0.0)


def test_greedy_answers_are_those_of_transformers(llama_directory: Path, model: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_directory)
    theirs = AutoModelForCausalLM.from_pretrained(llama_directory, dtype=torch.float32)
    request = Request((("system", "be kind"), ("user", "the cat sat")), Generation(max_new_tokens=12))
    prompt = "<|system|>be kind<|end|><|user|>the cat sat<|end|><|assistant|>"
    assert model.prompt(request) == prompt
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    out = theirs.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
    (found,) = answers(model, [request])
    assert found.text == tokenizer.decode(out, skip_special_tokens=True)
    assert found.output_tokens == len(out)
    assert found.input_tokens == ids["input_ids"].shape[1]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_drawn_tokens_have_the_probabilities_of_the_softmax(temperature: float) -> None:
    import torch

    from pytest_trustllm.models.local.sampling import Draft, PreparedPrompt, choose_tokens

    logits = torch.tensor([2.0, 1.0, -30.0, 0.0, 1.5])
    count = 20_000
    request = Request((("user", "a"),), Generation(temperature))
    drafts = [Draft(PreparedPrompt(i, replace(request, seed=i), [1], 2)) for i in range(count)]
    expected = torch.softmax(logits / temperature, -1) * count
    for _ in range(2):
        tokens = choose_tokens(logits.expand(count, -1), drafts, 0.0).tolist()
        counts = Counter(tokens)
        assert counts[2] == 0
        chi_square = sum((counts[i] - float(expected[i])) ** 2 / float(expected[i]) for i in (0, 1, 3, 4))
        assert chi_square < 16.27  # 0.1 % of samples of the right distribution exceed it, with 3 degrees of freedom
        for draft, token in zip(drafts, tokens, strict=True):
            draft.tokens.append(token)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 4, 5, 17])
def test_the_ends_of_the_distribution_can_be_drawn(vocabulary: int) -> None:
    import torch

    from pytest_trustllm.models.local.sampling import draw_tokens, halvings_of

    none = float("-inf")
    levels = halvings_of(vocabulary)
    whole, first, last = torch.zeros(1, vocabulary), torch.zeros(1, vocabulary), torch.zeros(1, vocabulary)
    first[0, 1:], last[0, :-1] = none, none
    for number in (0.0, 0.5, 1 - 2**-53):
        numbers = torch.full((1, levels), number, dtype=torch.float64)
        assert draw_tokens(first, numbers).tolist() == [0]
        assert draw_tokens(last, numbers).tolist() == [vocabulary - 1]
        if number != 0.5:
            assert draw_tokens(whole, numbers).tolist() == [0 if number == 0 else vocabulary - 1]


def test_rounding_changes_few_of_the_drawn_tokens() -> None:
    import torch

    from pytest_trustllm.models.local.sampling import draw_tokens, halvings_of

    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4_000, 1_000, generator=random)
    others = logits + 0.01 * torch.randn(logits.shape, generator=random)
    numbers = torch.rand(len(logits), halvings_of(1_000), dtype=torch.float64, generator=random)
    changed = float((draw_tokens(logits, numbers) != draw_tokens(others, numbers)).double().mean())
    least = float((torch.softmax(logits, -1) - torch.softmax(others, -1)).abs().sum(-1).mean() / 2)
    assert 0 < least < changed < 3 * least  # no way to draw changes fewer than ``least``


def test_random_numbers_are_a_function_of_seed_and_step() -> None:
    from pytest_trustllm.models.local.sampling import Draft, PreparedPrompt

    def draft(seed: int) -> Draft:
        return Draft(PreparedPrompt(0, Request((("user", "a"),), Generation(1.0), seed), [1], 4))

    one, other = draft(3), draft(3)
    first = one.uniforms(5).tolist()
    assert one.uniforms(5).tolist() == first == other.uniforms(5).tolist()
    one.tokens.append(1)
    second = one.uniforms(5).tolist()
    assert not set(second) & set(first)
    other.tokens.append(2)
    assert other.uniforms(5).tolist() == second
    assert not set(draft(4).uniforms(5).tolist()) & set(first)
    assert draft(-1).uniforms(2).tolist() != draft(1).uniforms(2).tolist()  # any whole number is a seed


def test_the_answer_ends_before_a_stop_string(model: Any) -> None:
    (whole,) = answers(model, [Request((("user", "the cat sat"),), Generation(max_new_tokens=20))])
    assert whole.text is not None
    stop = whole.text[3:5]
    cut = whole.text[: whole.text.index(stop)]
    (found,) = answers(model, [Request((("user", "the cat sat"),), Generation(max_new_tokens=20, stop=("\0", stop)))])
    assert (found.text, found.finish) == (cut, "stop")
    assert found.output_tokens is not None
    assert found.output_tokens < 20


def test_length_and_context(model: Any) -> None:
    assert model.info["context"] == 128
    long, longer = "cat " * 61, "cat " * 200
    short, cut, none = answers(
        model,
        [Request((("user", text),), Generation(max_new_tokens=50)) for text in ("a", long, longer)],
    )
    assert short.error is None
    assert cut.error is None
    assert cut.input_tokens is not None
    assert cut.output_tokens is not None
    assert cut.input_tokens + cut.output_tokens <= 128
    assert none.error is not None
    assert none.error.startswith("prompt of ")
    assert none.error.endswith(" tokens is longer than the model's context of 128")


def test_half_an_emoji_can_be_asked(model: Any) -> None:
    (found,) = answers(model, [Request((("user", "the cat \ud83d"),), Generation(max_new_tokens=2))])
    assert found.error is None


@pytest.mark.parametrize("attention", ["full", "sliding"])
def test_running_out_of_memory_halves_what_is_computed_at_once(
    llama_directory: Path,
    tmp_path: Path,
    make_spec: Callable[..., ModelSpec],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    attention: str,
) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    directory, kind = llama_directory, LlamaForCausalLM
    if attention == "sliding":
        directory, kind = tmp_path / "mistral", MistralForCausalLM
        kind(MistralConfig(**SMALL, sliding_window=8)).save_pretrained(directory)
        AutoTokenizer.from_pretrained(llama_directory).save_pretrained(directory)
    model: Any = PROVIDER.load(make_spec(directory), LoadSettings(device="cpu", batch_size=8))
    asked = requests(24)
    expected = essence(answers(model, asked))
    whole, most = kind.forward, 2

    @functools.wraps(whole)
    def scarce(self: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", scarce)
    assert essence(answers(model, asked)) == expected
    assert [r.message for r in caplog.records] == ["out of memory: 4 answers at once from here on, fewer if need be"]
    most = 0
    assert {str(r.error)[:27] for r in answers(model, asked)} == {"out of memory for a prompt "}


def test_system_prompt_and_template_of_the_entry(llama_directory: Path, make_spec: Callable[..., ModelSpec]) -> None:
    template = "{{ tone }}: {% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
    spec = make_spec(llama_directory, system_prompt="short", chat_template=template, template_options={"tone": "kind"})
    model: Any = PROVIDER.load(spec, LoadSettings(device="cpu"))
    assert model.prompt(Request((("user", "hi"),))) == "kind: [system] short [user] hi "
    assert model.prompt(Request((("system", "own"), ("user", "hi")))) == "kind: [system] own [user] hi "
    assert model.info["system_prompt"] == "short"
    assert model.info["template_options"]["tone"] == "kind"


def test_a_template_that_takes_no_system_message(llama_directory: Path, make_spec: Callable[..., ModelSpec]) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    model = PROVIDER.load(make_spec(llama_directory, chat_template=template), LoadSettings(device="cpu"))
    (found,) = answers(model, [Request((("system", "own"), ("user", "hi")))])
    assert found.error == "the chat template does not take this chat: no system"


def test_a_model_without_template_gets_the_text(llama_directory: Path, tmp_path: Path, make_spec: Any) -> None:
    copy = tmp_path / "plain"
    shutil.copytree(llama_directory, copy)
    (copy / "chat_template.jinja").unlink()
    model: Any = PROVIDER.load(make_spec(copy), LoadSettings(device="cpu"))
    assert model.info["chat_template"] is None
    assert model.prompt(Request((("user", "hi"),))) == "hi"


def test_info_tells_models_apart(llama_directory: Path, tmp_path: Path, make_spec: Any, model: Any) -> None:
    info = model.info
    assert (info["provider"], info["id"], info["dtype"], info["device"]) == ("hf", "tiny-llama", "float32", "cpu")
    assert info["about"]["parameters"] > 10_000
    assert json.loads(json.dumps(info)) == info
    copy = tmp_path / "tiny-llama"
    shutil.copytree(llama_directory, copy)
    assert PROVIDER.load(make_spec(copy), LoadSettings(device="cpu")).info == info
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").write_text(template + " ")
    assert PROVIDER.load(make_spec(copy), LoadSettings(device="cpu")).info["revision"] != info["revision"]


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("saved", ["bfloat16", "float16", "float32"])
def test_a_cpu_computes_in_bfloat16_if_the_checkpoint_is_in_it_and_the_cpu_has_amx(
    llama_directory: Path, tmp_path: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch, saved: str, amx: bool
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    copy = tmp_path / "tiny-llama"
    shutil.copytree(llama_directory, copy)
    AutoModelForCausalLM.from_pretrained(copy, dtype=getattr(torch, saved)).save_pretrained(copy)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx, "avx512_bf16": True})
    model = PROVIDER.load(make_spec(copy), LoadSettings(device="cpu"))
    is_narrow = amx and saved == "bfloat16"
    assert model.info["dtype"] == ("bfloat16" if is_narrow else "float32")
    assert model.info["about"].get("batch_effects") == ("possible" if is_narrow else None)
    chosen: Any = PROVIDER.load(make_spec(copy, dtype="float32"), LoadSettings(device="cpu"))
    assert chosen.info["dtype"] == "float32"


def test_loading_says_nothing(llama_directory: Path, make_spec: Any, capfd: pytest.CaptureFixture[str]) -> None:
    import transformers

    before = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu"))
    assert capfd.readouterr() == ("", "")
    assert (transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()) == before


def test_a_directory_lacks_something(tmp_path: Path, make_spec: Any) -> None:
    with pytest.raises(ModelError, match=r"^models: 'hf:none': .*none is not a directory$"):
        PROVIDER.check(make_spec(tmp_path / "none"))
    with pytest.raises(ModelError, match=r" has no config\.json; give what save_pretrained wrote$"):
        PROVIDER.check(make_spec(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r" has no tokenizer \(tokenizer\.json or tokenizer_config\.json\)$"):
        PROVIDER.check(make_spec(tmp_path))


def test_broken_weights_are_one_line(llama_directory: Path, tmp_path: Path, make_spec: Any) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(llama_directory, copy)
    (copy / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match=r"^models: 'hf:broken' cannot be loaded: [^\n]+$"):
        PROVIDER.load(make_spec(copy), LoadSettings(device="cpu"))


def test_a_repository_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = ModelSpec("hf:no/such-model", "hf", "no/such-model")
    with pytest.raises(ModelError, match=r"^models: 'hf:no/such-model' cannot be loaded: [^\n]+$"):
        PROVIDER.load(spec, LoadSettings(device="cpu"))


def test_a_name_that_is_no_repository() -> None:
    with pytest.raises(ModelError, match="neither an existing directory nor a repository such as"):
        PROVIDER.check(ModelSpec("hf:a/b/c", "hf", "a/b/c"))


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match=r"^models: 'hf:x' needs torch and transformers; run: pip install 'pytest-trustllm\[hf\]'$"
    ):
        PROVIDER.check(ModelSpec("hf:x", "hf", "x"))


def test_a_device_that_is_not_there(llama_directory: Path, make_spec: Any) -> None:
    with pytest.raises(ModelError, match=r"^models: device 'tpu' is not usable: "):
        PROVIDER.load(make_spec(llama_directory), LoadSettings(device="tpu"))


def test_a_model_without_keys_and_values_is_named(tokenizer: Any, tmp_path: Path, make_spec: Any) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, state_size=2)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    with pytest.raises(ModelError, match="MambaForCausalLM keeps no keys and values; use an engine that runs it"):
        PROVIDER.load(make_spec(tmp_path / "mamba"), LoadSettings(device="cpu"))


def test_a_prompt_longer_than_the_context_is_cut_on_request(llama_directory: Path, make_spec: Any) -> None:
    model: Any = PROVIDER.load(make_spec(llama_directory, long_prompts="cut"), LoadSettings(device="cpu"))
    assert model.info["long_prompts"] == "cut"

    def ask(text: str, most: int) -> Response:
        return answers(model, [Request((("user", text),), Generation(max_new_tokens=most))])[0]

    short, long = ask("the cat sat", 20), ask("cat " * 300 + "the moon", 20)
    assert short.input_tokens is not None
    assert short.input_tokens < 20
    assert (long.error, long.input_tokens) == (None, 108)
    assert ask("cat " * 300, 500).input_tokens == 64  # at least half of the context is left to the prompt
    assert ask("x " + "cat " * 300 + "the moon", 20).text == long.text  # the beginning is what is cut


def test_a_model_is_spread_over_devices(llama_directory: Path, make_spec: Any, model: Any) -> None:
    pytest.importorskip("accelerate")
    spread: Any = PROVIDER.load(make_spec(llama_directory, device_map="auto"), LoadSettings(device="cpu"))
    asked = requests(6)
    assert essence(answers(spread, asked)) == essence(answers(model, asked))


def test_spreading_needs_accelerate(llama_directory: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "accelerate" else found(name))
    with pytest.raises(
        ModelError, match=r"^models: 'hf:tiny-llama': 'device_map' needs accelerate; run: pip install accelerate$"
    ):
        PROVIDER.check(make_spec(llama_directory, device_map="auto"))
