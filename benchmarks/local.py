"""Local models: how fast answers come, against other ways to get the same answers on the same machine.

python benchmarks/local.py varied          256 prompts, answers of varied length, 5M parameters
python benchmarks/local.py fixed           answers of 32 tokens, 100M parameters, compute-bound
python benchmarks/local.py checkpoint --model DIRECTORY --prompts 48 [--tokens 32]
                                           a saved chat model, its own template
python benchmarks/local.py plugin          whole commands: pytest at -n 0, 2 and 4 against the bare slot loop

Ways take turns (A B A B); the table holds medians and ratios. lm-eval: pip install 'pytest-trustllm[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from _models import interleaved, make, prompts, table

from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.huggingface import PROVIDER
from pytest_trustllm.models.queue import RequestQueue
from pytest_trustllm.types import Generation, Request, Response

PAGE = 32
"""Positions in a page of ``generate_batch``: its fastest of 32 and 256, its default, on a CPU."""
PAGED_TOKENS = 512
"""Tokens that ``generate_batch`` computes at once: its fastest of 128 to 2,048 on a CPU."""
SUITE = """
dimension: safety
source: {{paper: made up, licence: none}}
tasks:
  - name: bench
    version: 1
    title: Prompts of the benchmark
    data: {{samples: prompts.jsonl}}
    generation: {{temperature: 0, max_new_tokens: {most}}}
    scorer: {{name: refusal}}
    metrics: [refusal_rate]
"""


Way = Callable[[], list[str]]
"""Answers to all prompts, in their order."""


def load_model(directory: Path) -> Any:
    """Return the plugin's own model, without pytest."""
    return PROVIDER.load(ModelSpec("bench", "hf", str(directory)), LoadSettings(device="cpu"))


def requests_of(texts: list[str], most: int) -> list[Request]:
    """Return greedy requests for answers of up to ``most`` tokens."""
    return [Request((("user", text),), Generation(max_new_tokens=most)) for text in texts]


def slot_loop(directory: Path, texts: list[str], most: int) -> Callable[[], list[Response]]:
    """Return the plugin's own way, without pytest."""
    model = load_model(directory)
    requests = requests_of(texts, most)

    def way() -> list[Response]:
        responses = dict(model.generate(RequestQueue.only(requests)))
        return [responses[i] for i in range(len(requests))]

    return way


def token_ids(directory: Path, texts: list[str], most: int) -> list[list[int]]:
    """Return the prompts as the plugin gives them to the model, after the chat template if there is one."""
    model = load_model(directory)
    return [list(model.prepare(i, request).ids) for i, request in enumerate(requests_of(texts, most))]


def bare_model(directory: Path) -> tuple[Any, Any]:
    """Return model and tokenizer as transformers loads them, in float32."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model, tokenizer


def by_transformers(directory: Path, prompt_ids: list[list[int]], most: int, batch: int) -> Way:
    """Return ``generate`` over batches in the order of the prompts; a batch of 1 is the toolkit's way."""
    model, tokenizer = bare_model(directory)

    def way() -> list[str]:
        answers = []
        for start in range(0, len(prompt_ids), batch):
            inputs = tokenizer.pad({"input_ids": prompt_ids[start : start + batch]}, return_tensors="pt")
            with torch.inference_mode():
                rows = model.generate(**inputs, max_new_tokens=most, do_sample=False)
            answers += tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    return way


def by_generate_batch(directory: Path, prompt_ids: list[list[int]], most: int) -> Way:
    """Return transformers' continuous batching."""
    model, tokenizer = bare_model(directory)
    ends = model.generation_config.eos_token_id
    greedy = transformers.GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=ends, pad_token_id=0)
    # Pages for all prompts at once. Left to itself, it fills 60 % of the machine's memory with zeros at every call,
    # which takes longer than these answers.
    pages = sum(-(-(len(ids) + most) // PAGE) for ids in prompt_ids)

    def way() -> list[str]:
        batching = transformers.ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=pages, max_batch_tokens=PAGED_TOKENS
        )
        with torch.inference_mode():
            outputs = model.generate_batch(prompt_ids, greedy, batching)
        return [tokenizer.decode(output.generated_tokens, skip_special_tokens=True) for output in outputs.values()]

    return way


def by_lm_eval(directory: Path, prompt_ids: list[list[int]], most: int, batch: int) -> Way:
    """Return lm-eval's HF backend, which sorts by length and batches."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(directory), device="cpu", dtype="float32", batch_size=batch, max_length=4096)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=False) for ids in prompt_ids]
    # The same tokens as every other way gets, those of the chat template included
    assert [model.tok_encode(text) for text in texts] == prompt_ids
    how = {"until": [model.tokenizer.eos_token], "max_gen_toks": most, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, dict(how)), i) for i, text in enumerate(texts)]
    return lambda: list(model.generate_until(asked, disable_tqdm=True))


def random_model(args: argparse.Namespace, size: str, most: int, ending: float, base_count: int) -> None:
    """Compare the ways on a Llama with random weights, made on the spot."""
    texts = prompts(args.prompts, args.data)
    with tempfile.TemporaryDirectory() as where:
        directory = make(Path(where) / "model", size, texts, ending=ending)
        compare(args, directory, texts, most, base_count, f"Llama of {size} parameters")


def compare(
    args: argparse.Namespace, directory: Path, texts: list[str], most: int, base_count: int, title: str
) -> None:
    """Print the table of the ways, base first.

    All of them answer greedily in float32, so their answers are the same and have the same number of tokens; how many
    are not is printed.
    """
    prompt_ids = token_ids(directory, texts, most)
    few = prompt_ids[:base_count]
    loop = slot_loop(directory, texts, most)
    responses = loop()  # once before the clock runs, as for every way below
    base = f"batch 1, the toolkit's way ({len(few)} prompts)"
    ways: dict[str, Way] = {
        base: by_transformers(directory, few, most, 1),
        "slot loop": lambda: [response.text or "" for response in loop()],
        "transformers, generate_batch": by_generate_batch(directory, prompt_ids, most),
    }
    for batch in args.static:
        ways[f"transformers, batches of {batch} in file order"] = by_transformers(directory, prompt_ids, most, batch)
    try:
        for batch in args.lm_eval:
            ways[f"lm-eval HF backend, batches of {batch}"] = by_lm_eval(directory, prompt_ids, most, batch)
    except ModuleNotFoundError as e:
        print(f"lm-eval is left out: {e}", file=sys.stderr)
    alone = ways[base]()
    differ = dict.fromkeys(ways, 0)

    def counted(name: str, way: Way) -> Callable[[], int]:
        def run() -> int:
            answers = way()
            differ[name] = sum(a.strip() != b.strip() for a, b in zip(answers, alone, strict=False))
            return sum(response.output_tokens or 0 for response in responses[: len(answers)])

        return run

    clock = time.process_time if args.cpu_time else time.perf_counter
    paces = interleaved({name: counted(name, way) for name, way in ways.items()}, args.rounds, clock)
    measured = "CPU time" if args.cpu_time else "wall clock"
    print(table(f"{len(texts)} prompts, answers of up to {most} tokens, {title}, float32, {measured}", paces, base))
    print(f"Of {len(alone)} answers, those that differ from batch 1: {differ}")


def plugin(args: argparse.Namespace) -> None:
    """Print the table of whole commands, model loading included."""
    texts = prompts(args.prompts, args.data)
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        directory = make(where / "model", "5M", texts, ending=1.5)
        (where / "suites").mkdir()
        (where / "suites" / "bench.yaml").write_text(SUITE.format(most=256))
        lines = [json.dumps({"prompt": text}) + "\n" for text in texts]
        (where / "suites" / "prompts.jsonl").write_text("".join(lines))
        (where / "pytest.ini").write_text("[pytest]\ntrust_builtin_suites = false\n")

        def bare() -> int:
            code = (
                "import local, sys; loop = local.slot_loop(local.Path(sys.argv[1]), local.json.load(sys.stdin), 256); "
                "print(sum(r.output_tokens for r in loop()))"
            )
            here = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
            command = [sys.executable, "-c", code, str(directory)]
            found = subprocess.run(
                command, input=json.dumps(texts), capture_output=True, text=True, check=True, env=here
            )
            return int(found.stdout)

        def run(workers: int) -> int:
            results = where / "results.json"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--trust-model=hf:{directory}"]
            command += ["--trust-refusal-classifier=rules", "--trust-device=cpu", "--trust-fresh", "-n", str(workers)]
            command += [f"--trust-results={results}"]
            found = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
            if found.returncode not in (0, 1):
                raise SystemExit(found.stdout + found.stderr)
            return int(json.loads(results.read_text())["usage"]["output_tokens"])

        ways = {"slot loop in a process of its own": bare}
        ways |= {f"pytest -n {n}": lambda n=n: run(n) for n in (0, 2, 4)}  # type: ignore[misc]
        found = interleaved(ways, args.rounds, time.perf_counter)
    print(
        table(
            f"{len(texts)} prompts, whole command with imports and loading, Llama of 5M parameters",
            found,
            next(iter(ways)),
        )
    )


def main() -> None:
    """Run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("varied", "fixed", "checkpoint", "plugin"))
    parser.add_argument("--model", type=Path, default=None, help="directory of the chat model that 'checkpoint' runs")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32, help="of the longest answer of 'checkpoint'")
    parser.add_argument("--alone", type=int, default=48, help="prompts that 'checkpoint' also answers one by one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None, help="of torch (default: its own choice)")
    parser.add_argument("--cpu-time", action="store_true", help="for a busy machine; with --threads 1")
    parser.add_argument(
        "--static", type=int, nargs="*", default=[16], help="batch sizes of transformers to compare with"
    )
    parser.add_argument("--lm-eval", type=int, nargs="*", default=[8, 64], help="batch sizes of lm-eval")
    parser.add_argument("--data", type=Path, default=None, help="TrustLLM's dataset.zip (default: made-up prompts)")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if args.what == "varied":
        random_model(args, "5M", 256, 1.5, base_count=args.prompts)
    elif args.what == "fixed":
        random_model(args, "100M", 32, 0.0, base_count=min(16, args.prompts))
    elif args.what == "checkpoint":
        if args.model is None:
            parser.error("'checkpoint' needs --model DIRECTORY")
        texts = prompts(args.prompts, args.data)
        compare(args, args.model.resolve(), texts, args.tokens, min(args.alone, args.prompts), args.model.name)
    else:
        plugin(args)


if __name__ == "__main__":
    main()
