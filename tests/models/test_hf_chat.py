from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.huggingface import PROVIDER
from pytest_trustllm.records import Generation, Request, Response

pytest.importorskip("torch")

WORDS = "the cat sat on a mat and looked at moon rain wind sea door key poem one two three four five".split()


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
    found = dict(model.generate(asked))
    assert sorted(found) == list(range(len(asked)))
    return [found[i] for i in range(len(asked))]


def essence(found: Sequence[Response]) -> list[tuple[str | None, int | None, str | None]]:
    return [(r.text, r.output_tokens, r.finish) for r in found]


@pytest.fixture(scope="module")
def model(llama_directory: Path, make_spec: Callable[..., ModelSpec]) -> Any:
    return PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu"))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
@pytest.mark.parametrize("batch", [3, 8, 64])
def test_an_answer_does_not_depend_on_its_batch(
    llama_directory: Path, make_spec: Callable[..., ModelSpec], temperature: float, batch: int
) -> None:
    asked = requests(24, temperature)
    alone = PROVIDER.load(make_spec(llama_directory, batch_size=1), LoadSettings(device="cpu"))
    together = PROVIDER.load(make_spec(llama_directory), LoadSettings(device="cpu", batch_size=batch))
    expected = essence(answers(alone, asked))
    assert essence(answers(together, asked)) == expected
    order = random.Random(batch).sample(range(len(asked)), len(asked))
    shuffled = essence(answers(together, [asked[i] for i in order]))
    assert [shuffled[order.index(i)] for i in range(len(asked))] == expected
    assert len({text for text, _, _ in expected}) > 5
