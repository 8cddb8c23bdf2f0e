"""Local models: how fast answers come, against other ways to get the same answers on the same machine.

python benchmarks/local.py varied          256 prompts, answers of varied length, 5M parameters
python benchmarks/local.py fixed           answers of 32 tokens, 100M parameters, compute-bound
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
from pytest_trustllm.models.huggingface import PROVIDER
from pytest_trustllm.models.waiting import Waiting
from pytest_trustllm.records import Generation, Request, Response

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


def slot_loop(directory: Path, texts: list[str], most: int) -> Callable[[], list[Response]]:
    """Return the plugin's own way, without pytest."""
    model: Any = PROVIDER.load(ModelSpec("bench", "hf", str(directory)), LoadSettings(device="cpu"))
    asked = [Request((("user", text),), Generation(max_new_tokens=most)) for text in texts]

    def way() -> list[Response]:
        found = dict(model.generate(Waiting.only(asked)))
        return [found[i] for i in range(len(asked))]

    return way


def by_transformers(directory: Path, texts: list[str], most: int, batch: int) -> Callable[[], list[str]]:
    """Return ``generate`` over batches in the order of the prompts; a batch of 1 is the toolkit's way."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    def way() -> list[str]:
        found = []
        for start in range(0, len(texts), batch):
            inputs = tokenizer(texts[start : start + batch], return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            with torch.inference_mode():
                rows = model.generate(**inputs, max_new_tokens=most, do_sample=False)
            found += tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return found

    return way


def by_lm_eval(directory: Path, texts: list[str], most: int, batch: int) -> Callable[[], list[str]]:
    """Return lm-eval's HF backend, which sorts by length and batches."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(directory), device="cpu", dtype="float32", batch_size=batch, max_length=4096)
    how = {"until": ["<end>"], "max_gen_toks": most, "do_sample": False}
    asked = [Instance("generate_until", {}, (text, dict(how)), i) for i, text in enumerate(texts)]
    return lambda: list(model.generate_until(asked, disable_tqdm=True))


def compare(args: argparse.Namespace, size: str, most: int, ending: float, base_count: int) -> None:
    """Print the table of the ways, base first.

    All of them answer greedily in float32, so their answers are the same and have the same number of tokens; how many
    are not is printed.
    """
    texts = prompts(args.prompts, args.data)
    few = texts[:base_count]
    with tempfile.TemporaryDirectory() as where:
        directory = make(Path(where) / "model", size, texts, ending=ending)
        loop = slot_loop(directory, texts, most)
        expected = loop()  # once before the clock runs, as for every way below
        differ: dict[str, int] = {}

        def counted(name: str, way: Callable[[], list[str]], count: int) -> Callable[[], int]:
            def run() -> int:
                found = way()
                wanted = expected[:count]
                differ[name] = sum(a.strip() != (b.text or "").strip() for a, b in zip(found, wanted, strict=True))
                return sum(r.output_tokens or 0 for r in wanted)

            return run

        first = f"batch 1, the toolkit's way ({len(few)} prompts)"
        ways = {
            first: counted(first, by_transformers(directory, few, most, 1), len(few)),
            "slot loop": counted("slot loop", lambda: [r.text or "" for r in loop()], len(texts)),
        }
        for batch in args.static:
            name = f"transformers, batches of {batch} in file order"
            ways[name] = counted(name, by_transformers(directory, texts, most, batch), len(texts))
        try:
            for batch in args.lm_eval:
                name = f"lm-eval HF backend, batches of {batch}"
                ways[name] = counted(name, by_lm_eval(directory, texts, most, batch), len(texts))
        except ModuleNotFoundError as e:
            print(f"lm-eval is left out: {e}", file=sys.stderr)
        found = interleaved(ways, args.rounds, time.process_time if args.cpu_time else time.perf_counter)
    clock = "CPU time" if args.cpu_time else "wall clock"
    title = f"{len(texts)} prompts, answers of up to {most} tokens, Llama of {size} parameters, float32, {clock}"
    print(table(title, found, first))
    print(f"Answers that differ from the slot loop's: {differ}")


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
    parser.add_argument("what", choices=("varied", "fixed", "plugin"))
    parser.add_argument("--prompts", type=int, default=256)
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
        compare(args, "5M", 256, 1.5, base_count=args.prompts)
    elif args.what == "fixed":
        compare(args, "100M", 32, 0.0, base_count=min(16, args.prompts))
    else:
        plugin(args)


if __name__ == "__main__":
    main()
