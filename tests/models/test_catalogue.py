from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models import catalogue
from pytest_trustllm.models.base import BaseProvider, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.registry import Registry

Resolve = Callable[..., ModelSpec]


@pytest.fixture
def resolve(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolve:
    monkeypatch.chdir(tmp_path)

    def call(name: str, text: str | None = None, kind: ModelKind = "chat") -> ModelSpec:
        file = None
        if text is not None:
            file = tmp_path / "models.yaml"
            file.write_text(text, encoding="utf-8")
        return catalogue.resolve(name, user_file=file, registry=registry, kind=kind)

    return call


@pytest.mark.parametrize(
    ("name", "provider", "target"),
    [
        ("llama2-7b", "hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("llama-2-7b-chat", "hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("mixtral-8x7B", "hf", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("gpt-4", "openai", "gpt-4"),
        ("chatgpt", "openai", "gpt-3.5-turbo"),
        ("hf:gpt2", "hf", "gpt2"),
        ("openai:gpt-4o", "openai", "gpt-4o"),
        ("openai:meta-llama/Llama-3.1-8B:free", "openai", "meta-llama/Llama-3.1-8B:free"),
        ("python:my_app.bot:answer", "python", "my_app.bot:answer"),
        ("deepinfra:meta-llama/Meta-Llama-3-8B-Instruct", "openai", "meta-llama/Meta-Llama-3-8B-Instruct"),
    ],
)
def test_a_name_becomes_a_provider_and_a_target(name: str, provider: str, target: str, resolve: Resolve) -> None:
    spec = resolve(name)
    assert (spec.name, spec.provider, spec.target, spec.revision) == (name, provider, target, None)


def test_a_revision_stands_after_an_at(resolve: Resolve, tmp_path: Path) -> None:
    spec = resolve("hf:org/name@abc123")
    assert (spec.target, spec.revision) == ("org/name", "abc123")
    (tmp_path / "dir@v1").mkdir()
    spec = resolve("hf:dir@v1")
    assert (spec.target, spec.revision) == (str(tmp_path / "dir@v1"), None)


def test_a_path_is_meant_from_the_current_directory(resolve: Resolve, tmp_path: Path) -> None:
    assert resolve("replay:answers/x.jsonl").target == str(tmp_path / "answers/x.jsonl")
    assert resolve("hf:./model").target == str(tmp_path / "model")
    (tmp_path / "org/name").mkdir(parents=True)
    assert resolve("hf:org/name").target == str(tmp_path / "org/name")


def test_a_path_in_a_models_file_is_meant_from_the_file(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "models.yaml"
    file.write_text("mine: {provider: replay, model: x.jsonl}")
    spec = catalogue.resolve("mine", user_file=file, registry=registry)
    assert spec.target == str(tmp_path / "conf" / "x.jsonl")


def test_an_entry_of_the_user(resolve: Resolve) -> None:
    text = """
my-vllm: {provider: openai, model: meta-llama/Llama-3.1-8B-Instruct, base_url: "http://gpu-box:8000/v1",
          api_key_env: VLLM_KEY, max_concurrency: 256, price: {input: 0.1, output: 0.2}, aliases: [vllm]}
gpt-4: {provider: zhipu, model: glm-5, timeout: 30}
"""
    spec = resolve("my-vllm", text)
    assert spec.options == {
        "base_url": "http://gpu-box:8000/v1",
        "api_key_env": "VLLM_KEY",
        "max_concurrency": 256,
        "price": {"input": 0.1, "output": 0.2},
    }
    assert resolve("vllm", text).target == spec.target
    own = resolve("gpt-4", text)
    assert (own.target, own.options["timeout"], own.options["api_key_env"]) == ("glm-5", 30.0, "ZHIPUAI_API_KEY")
    assert resolve("llama2-7b", text).provider == "hf"


def test_a_spec_can_go_to_another_process(resolve: Resolve) -> None:
    for name in ("hf:gpt2", "ernie", "baichuan-13b", "anthropic:claude"):
        spec = resolve(name)
        assert pickle.loads(pickle.dumps(spec)) == spec
        json.dumps(dict(spec.options))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lama2-7b",
            (
                r"^models: no model named 'lama2-7b' \(did you mean 'llama2-7b'\?\); accepted: a name that "
                r"'pytest-trustllm models' lists, hf:<repo or directory>\[@revision\], "
                r"llamacpp:<path of a GGUF file>, openai:<model>, python:<module>:<callable>, replay:<path>, "
                r"sglang:<repo or directory>\[@revision\], vllm:<repo or directory>\[@revision\], "
                r"demo$"
            ),
        ),
        ("xyzzy", r"^models: no model named 'xyzzy'; accepted: "),
        ("foo:bar", r"^models: no model named 'foo:bar'; accepted: "),
        ("hf:", r"^models: 'hf:' does not name a model; write 'hf:<repo or directory>\[@revision\]'$"),
        ("zhipu:", r"^models: 'zhipu:' does not name a model; write 'zhipu:<model>'$"),
        ("demo:x", r"^models: 'demo:x': nothing can follow 'demo'; write 'demo'$"),
        ("palm2", r"^models: 'palm2' is not available: Google shut PaLM 2 down .*'replay:<path>'$"),
        (
            "replicate:meta/llama",
            r"^models: 'replicate:meta/llama' is not available: Replicate's predictions API is not OpenAI's",
        ),
        ("longformer", r"^models: 'longformer' is a classifier; expected a chat model$"),
        ("rules", r"^models: 'rules' is a classifier; expected a chat model$"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str, resolve: Resolve) -> None:
    with pytest.raises(ModelError, match=message):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rules", "classifier"), ("longformer", "classifier"), ("perspective", "rater"), ("ada-002", "embedder")],
)
def test_roles(name: str, kind: ModelKind, resolve: Resolve) -> None:
    assert resolve(name, kind=kind).kind == kind


def test_a_chat_model_is_no_rater(resolve: Resolve) -> None:
    with pytest.raises(
        ModelError, match=r"^models: 'openai:x' is a chat model or a classifier or an embedder; expected a tox"
    ):
        resolve("openai:x", kind="rater")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{model: x}", r"^models\.yaml: mine: key 'provider' is missing$"),
        ("{provider: hf}", r"^models\.yaml: mine: key 'model' is missing$"),
        (
            "{provider: opnai, model: x}",
            r"^models\.yaml: mine\.provider: 'opnai' is not accepted \(did you mean 'openai'\?\)",
        ),
        ("{provider: openai, model: x, base_ulr: y}", r"mine: unknown key 'base_ulr' \(did you mean 'base_url'\?\)"),
        ("{provider: hf, model: x, base_url: 'http://a'}", r"mine: unknown key 'base_url'"),
        (
            "{provider: openai, model: x, base_url: gpu-box}",
            r"mine\.base_url: expected an address that begins with http",
        ),
        ("{provider: openai, model: x, price: {input: 1}}", r"mine\.price: key 'output' is missing$"),
        ("{provider: openai, model: x, price: {input: -1, output: 1}}", r"mine\.price\.input: -1 is outside"),
        ("{provider: openai, model: x, max_concurrency: many}", r"mine\.max_concurrency: expected a whole number"),
        ("{provider: openai, model: x, omit: [sed]}", r"mine\.omit\[0\]: 'sed' is not accepted \(did you mean 'seed'"),
        ("{provider: hf, model: x, dtype: int4}", r"mine\.dtype: 'int4' is not accepted"),
        ("{provider: hf, model: x, kind: chad}", r"mine\.kind: 'chad' is not accepted \(did you mean 'chat'\?\)"),
        (
            "{provider: hf, model: x, template_options: {a: [1]}}",
            r"template_options\.a: expected text, a number, true or fal",
        ),
        ("[]", r"^models\.yaml: mine: expected a mapping, found"),
        ("{provider: hf, model: x, reasoning: yes}", r"mine\.reasoning: expected tags.* a field"),
        ("{provider: hf, model: x, reasoning: no thanks}", r"mine\.reasoning: 'no thanks' is not accepted"),
        ("{provider: hf, model: x, reasoning: {end: x}}", r"mine\.reasoning: 'start' is missing; write start: ''"),
        ("{provider: hf, model: x, reasoning: {start: x}}", r"mine\.reasoning: expected tags"),
        ("{provider: hf, model: x, reasoning: {start: '', end: ' '}}", r"mine\.reasoning\.end: expected text"),
        ("{provider: hf, model: x, reasoning: {field: a, end: b}}", r"mine\.reasoning: expected tags"),
        ("{provider: hf, model: x, thinking_tokens: -1}", r"mine\.thinking_tokens: -1 is outside"),
        ("{provider: hf, model: x, generation: {}}", r"mine\.generation: no setting is given"),
        ("{provider: hf, model: x, generation: {temprature: 1}}", r"generation: unknown key 'temprature'"),
        ("{provider: hf, model: x, aliases: [mine]}", r"mine: the name 'mine' is given twice$"),
        ("{provider: replicate, model: x}", r"^models: 'mine' is not available: Replicate"),
    ],
)
def test_entries_that_are_wrong(entry: str, message: str, resolve: Resolve) -> None:
    with pytest.raises(ModelError, match=message):
        resolve("mine", f"mine: {entry}")


@pytest.mark.parametrize(
    "entry", ["api_key_env: sk-123-secret", 'base_url: "https://user:sk-123-secret@host/v1"', "api_key: sk-123-secret"]
)
def test_a_key_put_into_the_file_is_not_repeated(entry: str, resolve: Resolve) -> None:
    with pytest.raises(ModelError) as caught:
        resolve("mine", f"mine: {{provider: openai, model: x, {entry}}}")
    assert "sk-123-secret" not in str(caught.value)


def test_a_wrong_entry_is_told_even_if_another_is_asked_for(resolve: Resolve) -> None:
    with pytest.raises(ModelError, match="other: unknown key 'modle'"):
        resolve("demo", "other: {provider: hf, modle: x}")


class Echo(BaseProvider):
    def load(self, spec: ModelSpec, settings: LoadSettings) -> Any:
        raise NotImplementedError


def test_a_registered_provider_is_named_like_any_other(registry: Registry, resolve: Resolve) -> None:
    registry.providers.add("echo", Echo)
    assert resolve("echo:x").provider == "echo"
    assert resolve("mine", "mine: {provider: echo, model: y}").target == "y"
    assert isinstance(catalogue.provider_of(resolve("echo:x"), registry), Echo)
    assert "echo:<model>" in catalogue.accepted_names(registry)


@pytest.mark.parametrize("kind", ["chat", "classifier", "embedder", "rater"])
def test_an_unknown_name_is_answered_with_names_that_can_play_the_role(registry: Registry, kind: ModelKind) -> None:
    def says(name: str) -> str:
        with pytest.raises(ModelError) as caught:
            catalogue.resolve(name, user_file=None, registry=registry, kind=kind)
        return str(caught.value)

    accepted = says("xyzzy").partition("accepted: ")[2]
    for provider in registry.providers:
        can = kind in catalogue.provider_of(ModelSpec("m", provider, "m"), registry).kinds
        listed = any(form.partition(":")[0] == provider for form in accepted.split(", "))
        assert listed == (can and provider != "server"), provider
    # nor is a name of another kind suggested
    assert ("did you mean 'rules'" in says("rulez")) == (kind == "classifier")
    assert ("did you mean 'demo'" in says("demos")) == (kind == "chat")


def test_the_catalogue_holds_every_model_of_the_leaderboard(registry: Registry) -> None:
    entries = {alias.name: alias for alias in catalogue.list_entries(None, registry)}
    board = catalogue.published_scores()
    assert set(board.scores) <= set(entries)
    assert len(board.scores) == 21
    assert {name for name, alias in entries.items() if alias.in_paper} == board.in_paper
    assert len(board.in_paper) == 16
    for name in board.scores:
        alias = entries[name]
        assert alias.open is not None
        assert alias.licence
        assert alias.target or alias.unavailable
        assert set(board.scores[name]) <= set(board.metrics)
    assert len(board.metrics) == 31


def test_every_shipped_entry_resolves_or_says_why_not(registry: Registry) -> None:
    for alias in catalogue.list_entries(None, registry):
        for name in (alias.name, *alias.aliases):
            if alias.unavailable is None:
                spec = catalogue.resolve(name, user_file=None, registry=registry, kind=alias.kind or "chat")
                assert spec.target == alias.target
            else:
                with pytest.raises(ModelError, match="is not available"):
                    catalogue.resolve(name, user_file=None, registry=registry)


def test_shipped_chat_templates_can_be_rendered(registry: Registry, tokenizer: Any) -> None:
    chat = [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    shown = {}
    for alias in catalogue.list_entries(None, registry):
        template = alias.options.get("chat_template")
        if template:
            shown[alias.name] = [
                tokenizer.apply_chat_template(
                    messages, chat_template=template, add_generation_prompt=True, tokenize=False
                )
                for messages in (chat[:1], chat)
            ]
    assert shown["baichuan-13b"] == [
        "<reserved_102>Q1<reserved_103>",
        "<reserved_102>Q1<reserved_103>A1<reserved_102>Q2<reserved_103>",
    ]
    assert shown["chatglm2"] == [
        "[Round 1]\n\n问：Q1\n\n答：",
        "[Round 1]\n\n问：Q1\n\n答：A1\n\n[Round 2]\n\n问：Q2\n\n答：",
    ]
    assert shown["oasst-12b"][0] == "<|prompter|>Q1<|endoftext|><|assistant|>"
    assert shown["koala-13b"] == [
        "BEGINNING OF CONVERSATION: USER: Q1 GPT:",
        "BEGINNING OF CONVERSATION: USER: Q1 GPT: A1</s>USER: Q2 GPT:",
    ]
    vicuna = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: Q1 ASSISTANT:"
    )
    for name in ("vicuna-7b", "vicuna-13b", "vicuna-33b", "wizardlm-13b"):
        assert shown[name] == [vicuna, f"{vicuna} A1</s>USER: Q2 ASSISTANT:"]
    assert len(shown) == 8


def test_the_users_entries_are_listed_first(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("mine: {provider: demo, aliases: [own]}\ngpt-4: {provider: openai, model: x}")
    names = [alias.name for alias in catalogue.list_entries(file, registry)]
    assert names[:2] == ["mine", "gpt-4"]
    assert names.count("gpt-4") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("headers: {'X Y': a}", "not the name of an HTTP header; expected letters, digits and hyphens"),
        ("extra_headers: {X-A: 5}", "expected"),
        ("extra_body: {a: .nan}", ".nan is not a number that is accepted"),
        ("extra_body: [a]", "expected"),
        (
            "extra_body: {model: other}",
            "'model' is not allowed here: it would change the request's prompt or model",
        ),
        ("extra_body: {messages: []}", "'messages' is not allowed here"),
        ("base_url: http://x/v1/chat/completions", "/chat/completions is appended to the address; leave it out"),
        ("thinking_budget: -1", "is outside"),
        ("max_completion_tokens: 0", "is outside"),
        ("base_url: http://x y/v1", "expected an address that begins with http:// or https://"),
    ],
)
def test_what_an_api_entry_may_not_hold(tmp_path: Path, registry: Registry, line: str, message: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(f"m:\n  provider: openai\n  model: x\n  {line}\n", encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        catalogue.resolve("m", user_file=file, registry=registry)


def test_what_an_api_entry_may_add(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "m:\n  provider: openai\n  model: x\n  base_url: ' http://gpu-box/v1 '\n  reasoning_effort: low\n"
        "  extra_body: {top_k: 5, chat: {a: [1, null]}}\n  extra_headers: {X-Team: $TEAM}\n  omit: [max_tokens]\n",
        encoding="utf-8",
    )
    options = catalogue.resolve("m", user_file=file, registry=registry).options
    assert options["base_url"] == "http://gpu-box/v1"
    assert options["extra_body"] == {"top_k": 5, "chat": {"a": [1, None]}}
    assert (options["extra_headers"], options["reasoning_effort"]) == ({"X-Team": "$TEAM"}, "low")
