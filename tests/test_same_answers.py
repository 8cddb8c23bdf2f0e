"""A few hundred prompts of the real data set get the same answers from every batch, order, worker and device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recorded

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not recorded.DATA.is_file(), reason=f"needs the data set in {recorded.DATA.parent}, beside the repository"
    ),
]
SHUFFLE = """
import random
def pytest_collection_modifyitems(items):
    random.Random(7).shuffle(items)
"""
PER_TASK = 12  # 324 samples; greedy and sampled answers
WAYS: dict[str, tuple[str, ...]] = {
    "full batches": ("-p", "no:xdist"),
    "small batches, four workers, another order": ("--trust-batch-size=7", "-n", "4", "-p", "shuffle"),
    "two devices, two workers": ("--trust-device=cpu,cpu", "-n", "2"),
}

Answers = dict[str, list[tuple[str | None, int | None]]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a small Llama whose answers have many lengths, and whose tokenizer knows every byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<pad>", "<end>"], initial_alphabet=alphabet))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<end>{% endfor %}"
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.eos_token_id] *= 2.5
    where = tmp_path_factory.mktemp("same")
    model.save_pretrained(where / "llama")
    tokenizer.save_pretrained(where / "llama")
    (where / "pytest.ini").write_text("[pytest]\n")
    (where / "shuffle.py").write_text(SHUFFLE)
    return where


def ask(project: Path, *arguments: str) -> Answers:
    """Run once; return text and number of tokens of every response, by sample."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--trust-model=hf:llama"),
        *(f"--trust-data={recorded.DATA}", f"--trust-limit={PER_TASK}", "--trust-fresh", "--trust-results=r.json"),
        *arguments,
    ]
    unset = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")
    env = {k: v for k, v in os.environ.items() if k not in unset} | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert result.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), result.stdout[-2000:]
    with (project / "r.samples.jsonl").open(encoding="ascii") as lines:
        return {
            f"{line['task']}[{line['id']}]": [(r["text"], r["output_tokens"]) for r in line["responses"]]
            for line in map(json.loads, lines)
        }


@pytest.fixture(scope="module")
def one_by_one(project: Path) -> Answers:
    found = ask(project, "--trust-batch-size=1", "-p", "no:xdist")
    responses = [r for answers in found.values() for r in answers]
    assert len(responses) > 300
    assert all(text is not None for text, _ in responses)
    assert len({length for _, length in responses}) > 20
    return found


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_those_of_batch_one(way: str, project: Path, one_by_one: Answers) -> None:
    assert ask(project, *WAYS[way]) == one_by_one
