"""Checkpoints and templates that do not give the model's own answers: one line each, or the right answer."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request, Response

torch = pytest.importorskip("torch")

CPU = LoadSettings(device="cpu")
SMALL: dict[str, Any] = {"vocab_size": 400, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PARTS = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}<|assistant|>"
)


@pytest.fixture
def copy(llama_directory: Path, tmp_path: Path) -> Path:
    found = tmp_path / "copy"
    shutil.copytree(llama_directory, found)
    return found


@pytest.fixture
def save(tokenizer: Any, tmp_path: Path) -> Callable[[Any], Path]:
    def save(model: Any) -> Path:
        where = tmp_path / "saved"
        model.save_pretrained(where)
        tokenizer.save_pretrained(where)
        return where

    return save


def load(make_spec: Any, where: Path, **options: Any) -> Any:
    return PROVIDER.load(make_spec(where, **options), CPU)


def answer(model: Any, *texts: str) -> list[Response]:
    asked = [Request((("user", text),), Generation(max_new_tokens=8)) for text in texts]
    found = dict(model.generate(RequestQueue.only(asked)))
    return [found[i] for i in range(len(texts))]


def refusal(make_spec: Any, where: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as found:
        load(make_spec, where, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


def weights(where: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(where / "model.safetensors"))


def write_weights(where: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, where / "model.safetensors", metadata={"format": "pt"})


def test_a_chat_model_is_no_classifier(copy: Path, make_spec: Any) -> None:
    line = refusal(make_spec, copy, kind="classifier")
    assert line.startswith(
        "models: 'hf:copy' cannot be loaded: score.weight would be random, because its files lack 1 of"
    )
    assert line.endswith("give a complete checkpoint of LlamaForSequenceClassification")


def test_weights_that_are_missing_or_of_another_shape(copy: Path, make_spec: Any) -> None:
    whole = weights(copy)
    write_weights(copy, {name: found for name, found in whole.items() if "layers.1." not in name})
    assert " and 6 more would be random, because its files lack 9 of its 21 weights; " in refusal(make_spec, copy)
    write_weights(copy, {**whole, "lm_head.weight": whole["lm_head.weight"][:-8].clone()})
    assert "lm_head.weight has the shape (" in refusal(make_spec, copy)
    write_weights(copy, {name: found for name, found in whole.items() if name != "lm_head.weight"})
    assert "lm_head.weight would be random" in refusal(make_spec, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    assert answer(load(make_spec, copy), "the cat")[0].error is None  # a tied head has no weights of its own


@pytest.mark.parametrize("kind", ["chat", "embedder"])
def test_an_encoder_decoder_is_turned_away(save: Any, make_spec: Any, kind: str) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 8))}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    where = save(BartForConditionalGeneration(BartConfig(**SMALL, **sizes, **heads, d_model=8)))
    line = refusal(make_spec, where, kind=kind)
    assert "BartConfig describes an encoder-decoder, which is not run here; use an engine that runs it" in line


def test_what_reads_ahead_is_no_chat_model(save: Any, make_spec: Any) -> None:
    from transformers import BertConfig, BertForMaskedLM

    where = save(BertForMaskedLM(BertConfig(**SMALL, **LAYERS, initializer_range=0.5)))
    assert "BertForMaskedLM fills gaps in a text and is not a chat model" in refusal(make_spec, where)
    config = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps({**config, "architectures": ["BertLMHeadModel"]}))
    assert "BertLMHeadModel looks at the tokens that come after, so it does not continue" in refusal(make_spec, where)


def test_recurrent_layers_that_give_no_cache_back(save: Any, make_spec: Any) -> None:
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    sizes = {**LAYERS, "num_hidden_layers": 3, "attention_window_size": 16, "lru_width": 32, "head_dim": 8}
    where = save(RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**SMALL, **sizes)))
    assert "RecurrentGemmaForCausalLM cannot be continued token by token" in refusal(make_spec, where)


def test_a_directory_has_no_revision(copy: Path, make_spec: Any) -> None:
    with pytest.raises(ModelError, match=r"^models: 'hf:copy': a directory has no revision 'step100'; leave it out"):
        PROVIDER.check(make_spec(copy, revision="step100"))


def test_a_gguf_file_names_the_ways(tmp_path: Path, make_spec: Any) -> None:
    (tmp_path / "model.Q4_1.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text("{}")
    for where in (tmp_path / "model.Q4_1.gguf", tmp_path, Path("model.gguf")):
        with pytest.raises(ModelError, match=r"use 'llamacpp:<path of the file>', or convert it: .*gguf_file="):
            PROVIDER.check(make_spec(where))


def test_a_tokenizer_that_knows_more_than_the_model(copy: Path, make_spec: Any) -> None:
    from transformers import AutoTokenizer

    larger = AutoTokenizer.from_pretrained(copy)
    larger.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    larger.save_pretrained(copy)
    what = "its tokenizer belongs to another model, or the embedding was not resized"
    error = f"none for token {len(larger) - 1} ('<|new|>'); {what}"
    for model in (load(make_spec, copy), load(make_spec, copy, batch_size=1)):
        fine, outside = answer(model, "the cat", "the <|new|> cat")
        assert fine.error is None
        assert outside.error is not None
        assert outside.error.endswith(error)
    line = refusal(make_spec, copy, chat_template="<|new|>{{ messages[0]['content'] }}")
    assert line.startswith("models: 'hf:copy' cannot be loaded: the model has ")
    assert line.endswith(error)


def test_a_template_that_knows_parts_gets_them(copy: Path, make_spec: Any) -> None:
    (copy / "chat_template.jinja").write_text(PARTS)
    model = load(make_spec, copy)
    assert model.info["content_parts"] is True
    assert model.prompt(Request((("user", "the cat"),))) == "the cat<|assistant|>"


@pytest.mark.parametrize("template", ["<|user|>{{ messages[0]['text'] }}", "{{ messages[1]['content'] }}", "hello {}"])
def test_a_template_that_loses_the_question(copy: Path, make_spec: Any, template: str) -> None:
    line = refusal(make_spec, copy, chat_template=template)
    assert line.startswith("models: 'hf:copy': the chat template ")
    assert line.endswith("; give another with 'chat_template' in your models file")


def test_a_template_that_loses_the_system_message(copy: Path, make_spec: Any) -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    model = load(make_spec, copy, chat_template=template)
    assert answer(model, "the cat")[0].error is None
    (found,) = dict(model.generate(RequestQueue.only([Request((("system", "be kind"), ("user", "the cat")))]))).values()
    assert found.error == "the chat template leaves the system message out; see 'chat_template' in a models file"


def test_a_template_that_asks_for_the_day(copy: Path, make_spec: Any) -> None:
    template = (
        "\n{% macro day(f) %}{{ strftime_now(f) if strftime_now is defined }}{% endmacro %}"
        "{{ day('%B %-d, %Y') }} {{ strftime_now('%Y-%m-%d') }} {{ date_string }} {{ messages[0]['content'] }}"
    )
    model = load(make_spec, copy, chat_template=template)
    prompt = model.prompt(Request((("user", "the cat"),)))
    assert prompt == "\nJuly 26, 2024 2024-07-26 26 Jul 2024 the cat"
    assert date.today().isoformat() not in prompt  # noqa: DTZ011 - what a template would print
    assert model.info["template_date"] == "2024-07-26"
    assert json.loads(json.dumps(model.info)) == model.info


def test_templates_with_names(copy: Path, make_spec: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy)
    texts = {name: name + " {{ messages[0]['content'] }}" for name in ("default", "rag")}
    tokenizer.chat_template = texts
    tokenizer.save_pretrained(copy)

    def prompt(**options: Any) -> str:
        text: str = load(make_spec, copy, **options).prompt(Request((("user", "hi"),)))
        return text

    before = load(make_spec, copy).info
    assert (prompt(), prompt(chat_template="rag")) == ("default hi", "rag hi")
    assert "'chat_template: tools' is neither Jinja nor a name; the tokenizer's are named default, rag" in refusal(
        make_spec, copy, chat_template="tools"
    )
    tokenizer.chat_template = {"rag": texts["rag"], "tools": texts["default"]}
    shutil.rmtree(copy / "additional_chat_templates")
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(copy)
    assert "none of its chat templates rag, tools is the default; name one" in refusal(make_spec, copy)
    assert load(make_spec, copy, chat_template="rag").info["revision"] != before["revision"]


def add_adapter(where: Path, base: Path, seed: int = 0) -> None:
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    shapes = {"A": (4, 48), "B": (48, 4)}
    layers = {name.format(i, part): torch.randn(*shapes[part], generator=random) for i in range(2) for part in shapes}
    where.mkdir(exist_ok=True)
    (where / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
    save_file(layers, where / "adapter_model.safetensors", metadata={"format": "pt"})


def test_an_adapter_needs_peft(copy: Path, tmp_path: Path, make_spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else whole(name, *a))
    add_adapter(tmp_path / "alone", copy)
    add_adapter(copy, copy)
    for where in (copy, tmp_path / "alone"):
        assert "holds an adapter (adapter_config.json), which needs peft; run: pip install" in refusal(make_spec, where)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_an_adapter_is_used_and_tells_models_apart(copy: Path, tmp_path: Path, make_spec: Any) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, alone = tmp_path / "base", tmp_path / "alone"
    shutil.copytree(copy, base)
    add_adapter(alone, base)
    add_adapter(copy, base)
    asked = "the cat sat on the mat"
    tokenizer = AutoTokenizer.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), alone)
    ids = tokenizer(f"<|user|>{asked}<|end|><|assistant|>", return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = theirs.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    expected = tokenizer.decode(out, skip_special_tokens=True)
    models = [load(make_spec, where) for where in (copy, alone)]
    assert [answer(model, asked)[0].text for model in models] == [expected, expected]
    assert answer(load(make_spec, base), asked)[0].text != expected
    assert [model.info["adapter"]["kind"] for model in models] == ["LORA", "LORA"]
    add_adapter(alone, base, seed=1)
    assert load(make_spec, alone).info["revision"] != models[1].info["revision"]
    write_weights(base, {name: found + 1 for name, found in weights(base).items()})
    changed = load(make_spec, alone).info["adapter"]
    assert changed["base_revision"] != models[1].info["adapter"]["base_revision"]
