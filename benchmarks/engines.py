"""Engines against each other: tokens per second of whole runs, without start-up, interleaved.

    python benchmarks/engines.py --real DIR [--prompts 96] [--tokens 48] [--dtype float32] [--rounds 3]
                                 [--rows chat slots ray]

DIR is what tools/real_models.sh made with --vllm. Every side answers the same prompts with the same model and dtype,
greedily. ``chat``: ``vllm:`` through pytest against vLLM's own offline ``LLM.chat``. ``slots``: ``hf:`` against
``vllm:``, both through pytest. ``ray``: three one-CPU nodes of a Ray cluster against three copies on the same CPUs.

The seconds are those during which requests were under way (``usage.seconds``); for ``LLM.chat``, the second call's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

OFFLINE = """
import json, sys, time
from vllm import LLM, SamplingParams

def main():
    model, prompts, tokens, dtype = json.load(sys.stdin)
    llm = LLM(model, dtype=dtype, max_model_len=2048, max_num_seqs=64, disable_log_stats=True)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    settings = SamplingParams(temperature=0, max_tokens=tokens)
    llm.chat(chats[:8], settings, use_tqdm=False)
    start = time.perf_counter()
    answers = llm.chat(chats, settings, use_tqdm=False)
    seconds = time.perf_counter() - start
    print("RESULT", sum(len(answer.outputs[0].token_ids) for answer in answers), seconds, flush=True)

if __name__ == "__main__":
    main()
"""
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
Measured = tuple[int, float]
"""Tokens of the answers and the seconds that they took."""


class Bench:
    """A project with one task, and the ways to answer it.

    Args:
        real: Directory of the real parts.
        prompts: How many.
        tokens: Longest answer.
        dtype: In which all sides compute.
    """

    def __init__(self, real: Path, prompts: int, tokens: int, dtype: str) -> None:
        self.model = str(real / "SmolLM2-135M-Instruct")
        self.vllm = real / "vllm" / "bin"
        self.tokens = tokens
        self.dtype = dtype
        topics = ("rivers", "trains", "the moon", "bread", "glass", "winter", "honesty", "maps")
        self.prompts = [
            f"Write {n % 5 + 1} sentences about {topics[n % len(topics)]}, number {n}." for n in range(prompts)
        ]
        self.directory = Path(tempfile.mkdtemp(prefix="trustllm-bench-"))
        (self.directory / "suites").mkdir()
        rows = "".join(f"        - {{prompt: {json.dumps(prompt)}, label: x}}\n" for prompt in self.prompts)
        (self.directory / "suites" / "bench.yaml").write_text(
            f"dimension: safety\ntasks:\n  - name: bench\n    data:\n      samples:\n{rows}"
            f"    generation: {{max_new_tokens: {tokens}}}\n    scorer: contains\n    metrics: [accuracy]\n"
        )
        (self.directory / "pytest.ini").write_text(
            "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n"
        )
        engine_args = {"dtype": dtype, "max_model_len": 2048, "max_num_seqs": 64}
        served = {"provider": "vllm", "executable": str(self.vllm / "vllm"), "engine_args": engine_args}
        models = {
            "hf": {"provider": "hf", "model": self.model, "dtype": dtype},
            "vllm": {**served, "model": self.model, "environment": ENVIRONMENT, "max_concurrency": 64},
        }
        (self.directory / "models.yaml").write_text(json.dumps(models))

    def run(self, model: str, *args: str) -> Measured:
        """Answer through pytest."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--trust-model={model}"]
        subprocess.run(
            [*command, "--trust-fresh", "--trust-results=r.json", *args],
            cwd=self.directory,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        usage = json.loads((self.directory / "r.json").read_text())["usage"]
        assert usage["failed"] == 0
        return usage["output_tokens"], usage["seconds"]

    def offline(self) -> Measured:
        """Answer by vLLM's own offline API."""
        program = self.directory / "offline.py"
        program.write_text(OFFLINE)
        done = subprocess.run(
            [str(self.vllm / "python"), str(program)],
            input=json.dumps([self.model, self.prompts, self.tokens, self.dtype]),
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        _, tokens, seconds = line.split()
        return int(tokens), float(seconds)

    def on_cluster(self) -> Measured:
        """Answer on three nodes of a Ray cluster of this machine."""
        script = Path(__file__).parents[1] / "tests" / "ray_cluster.py"
        with subprocess.Popen(
            [sys.executable, str(script), "1:0", "1:0", "1:0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as cluster:
            assert cluster.stdin is not None
            assert cluster.stdout is not None
            address = next(line.split()[1] for line in cluster.stdout if line.startswith("address"))
            try:
                return self.run("hf", f"--trust-cluster={address}")
            finally:
                cluster.stdin.close()


def compare(name: str, peer: Callable[[], Measured], ours: Callable[[], Measured], rounds: int) -> None:
    """Print medians of both sides, and of the ratios of the pairs."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        sides: list[Any] = [peer, ours]
        speeds: dict[int, float] = {}
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            tokens, seconds = sides[side]()
            speeds[side] = tokens / seconds
            print(f"  {name}, {'ours' if side else 'peer'}: {tokens} tokens in {seconds:.1f} s", file=sys.stderr)
        pairs.append((speeds[0], speeds[1]))
    peer_speed, our_speed = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"| {name} | {peer_speed:.0f} | {our_speed:.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=["chat", "slots", "ray"])
    args = parser.parse_args()
    bench = Bench(args.real.resolve(), args.prompts, args.tokens, args.dtype)
    print("| | peer, tokens/s | ours, tokens/s | ratio (of pairs) |\n|---|--:|--:|--:|")
    if "chat" in args.rows:
        compare("`vllm:` through pytest against `LLM.chat`", bench.offline, lambda: bench.run("vllm"), args.rounds)
    if "slots" in args.rows:
        compare("slot loop against `vllm:`", lambda: bench.run("vllm"), lambda: bench.run("hf"), args.rounds)
    if "ray" in args.rows:
        copies = "--trust-device=cpu,cpu,cpu"
        compare(
            "Ray, three nodes, against three copies", lambda: bench.run("hf", copies), bench.on_cluster, args.rounds
        )


if __name__ == "__main__":
    main()
