"""Local models on a GPU: the slot loop against transformers' ``generate_batch`` and against batch 1.

python benchmarks/gpu.py                        a Llama of 7B parameters in bfloat16, random weights made on the spot
python benchmarks/gpu.py --size 5M              a small one
python benchmarks/gpu.py --size 5M --device cpu --dtype float32 --prompts 16    does it run at all: no GPU needed

Ways take turns; the table holds medians and ratios. ``generate_batch`` is transformers' continuous batching.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from _models import SIZES, interleaved, make, prompts, table

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--alone", type=int, default=8, help="prompts asked at batch 1")
    parser.add_argument("--tokens", type=int, default=256, help="longest answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=None, help="slots (default: by free memory)")
    parser.add_argument("--data", type=Path, default=None, help="TrustLLM's dataset.zip (default: made-up prompts)")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    texts = prompts(args.prompts, args.data)
    with tempfile.TemporaryDirectory() as where:
        directory = make(Path(where) / "model", args.size, texts, ending=1.5, dtype=getattr(torch, args.dtype))
        # one model for all ways: two of 7B do not fit on every GPU
        spec = ModelSpec("bench", "hf", str(directory), options={"dtype": args.dtype})
        model: Any = PROVIDER.load(spec, LoadSettings(device=args.device, batch_size=args.batch_size))
    print(f"slots: {model.info['about']['batch_size']}, batching: {model.info['about']['batching']}")
    inner, tokenizer = model._computer._model, model._tokenizer  # the benchmark looks inside to share the weights
    ids = [tokenizer(text)["input_ids"] for text in texts]
    ways: dict[str, Callable[[], int]] = {
        f"batch 1 ({args.alone} prompts)": lambda: _alone(inner, ids[: args.alone], args.tokens),
        "slot loop": lambda: _slots(model, texts, args.tokens),
        "generate_batch": lambda: _paged(inner, ids, args.tokens),
    }
    for way in list(ways.values())[1:]:
        way()  # kernels are chosen and compiled here, before the clock runs
    found = interleaved(ways, args.rounds, _clock(args.device))
    title = (
        f"{len(texts)} prompts, answers of up to {args.tokens} tokens, Llama of {args.size} parameters, {args.dtype}"
    )
    print(table(title, found, next(iter(ways))))


def _clock(device: str) -> Callable[[], float]:
    def clock() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def _slots(model: Any, texts: list[str], most: int) -> int:
    asked = [Request((("user", text),), Generation(max_new_tokens=most)) for text in texts]
    return sum(response.output_tokens or 0 for _, response in model.generate(RequestQueue.only(asked)))


def _alone(model: Any, ids: list[list[int]], most: int) -> int:
    tokens = 0
    for prompt in ids:
        given = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            found = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=most, do_sample=False)
        tokens += found.shape[1] - len(prompt)
    return tokens


def _paged(model: Any, ids: list[list[int]], most: int) -> int:
    config = transformers.GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=1, pad_token_id=0)
    with torch.inference_mode():
        found = model.generate_batch(inputs=ids, generation_config=config)
    return sum(len(result.generated_tokens) for result in found.values())


if __name__ == "__main__":
    main()
