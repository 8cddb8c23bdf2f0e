"""The demo model inside the package: small, complete, quick to end, and right more often than not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the demo model needs torch: pip install 'pytest-trustllm[hf]'")
transformers = pytest.importorskip("transformers", reason="the demo model needs transformers")

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "pytest_trustllm" / "models" / "demo_weights"
MEGABYTES = 6
GREEDY = (
    "truthfulness/misinformation_external",
    "truthfulness/hallucination",
    "fairness/stereotype_recognition",
    "robustness/advglue",
    "robustness/ood_generalization",
    "privacy/confaide",
    "ethics/ethics",
    "ethics/social_chemistry_101",
    "ethics/awareness",
    "ethics/emotional_awareness",
)


def rows(name: str) -> list[dict[str, Any]]:
    path = ROOT / "suites" / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Demo:
    """The packaged model and its greedy answers."""

    def __init__(self) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(WEIGHTS)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()

    def chat(self, prompt: str) -> str:
        message = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)

    def answers(self, prompts: Sequence[str], most: int = 64) -> list[str | None]:
        """Greedy answers; None for one that does not end within ``most`` tokens."""
        texts = [self.chat(prompt) for prompt in prompts]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        with torch.no_grad():
            out = self.model.generate(**inputs, max_new_tokens=most, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        ended = (new == self.tokenizer.eos_token_id).any(dim=1)
        decoded = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text if end else None for text, end in zip(decoded, ended.tolist(), strict=True)]


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo()


def test_the_weights_are_small_safetensors() -> None:
    files = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert sum(files.values()) <= MEGABYTES * 1024 * 1024


def test_the_chat_template_takes_every_role(demo: Demo) -> None:
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Who are you?"},
    ]
    text = demo.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == ("<s><|system|>Be short.<|user|>Hello!<|assistant|>Hello!</s><|user|>Who are you?<|assistant|>")


def test_text_survives_the_tokenizer(demo: Demo) -> None:
    text = "Grüße, 你好 — it's 12 o'clock\n  and\ttime."
    ids = demo.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert demo.tokenizer.decode(ids) == text


def test_greedy_answers_to_the_sample_items_end_and_say_something(demo: Demo) -> None:
    answers = [a for name in GREEDY for a in demo.answers([row["prompt"] for row in rows(name)])]
    good = [answer for answer in answers if answer is not None and answer.strip()]
    assert len(good) >= 0.98 * len(answers)


def test_answers_to_long_foreign_text_end(demo: Demo) -> None:
    text = "Der schnelle braune Fuchs springt über den faulen Hund. Was meinst du dazu? "
    assert None not in demo.answers([text * 4, text * 60])


def share(pairs: Sequence[tuple[str | None, str]]) -> float:
    """Share of answers that begin with what is expected."""
    return sum(answer is not None and answer.startswith(expected) for answer, expected in pairs) / len(pairs)


def test_more_than_half_of_the_hallucination_samples_are_right(demo: Demo) -> None:
    items = rows("truthfulness/hallucination")
    expected = ["A" if row["source"] == "mc" else row["answer"] for row in items]
    assert share(list(zip(demo.answers([row["prompt"] for row in items]), expected, strict=True))) > 0.5


def test_more_than_half_of_the_moral_judgements_are_right(demo: Demo) -> None:
    items = rows("ethics/ethics")
    expected = [row["label"].capitalize() for row in items]
    assert share(list(zip(demo.answers([row["prompt"] for row in items]), expected, strict=True))) > 0.5


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason="the demo model has not learned to compare claim and text"))
        if name == "truthfulness/misinformation_external"
        else name
        for name in GREEDY
    ],
)
def test_answers_are_not_all_alike(demo: Demo, name: str) -> None:
    assert len(set(demo.answers([row["prompt"] for row in rows(name)]))) > 1


def test_the_training_script_runs_from_nothing(tmp_path: Path) -> None:
    out = tmp_path / "weights"
    command = [sys.executable, str(ROOT / "tools" / "train_demo.py"), "--steps", "3", "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert run.returncode == 0, run.stderr
    assert f"saved to {out}" in run.stdout
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert loaded.num_parameters() == transformers.AutoModelForCausalLM.from_pretrained(WEIGHTS).num_parameters()
