"""Cost per item: rows replayed, scored by rules and gated, against as many plain parametrized tests that do nothing.

    python benchmarks/items.py [--data dataset.zip --responses responses.zip]
    python benchmarks/items.py --items 16441 100000 --workers 4 --report --rounds 1

The plain tests have ids and a session fixture, and run without this plugin. The rows are a suite made up here, and at
the greatest number TrustLLM's own data set too, if it is given. All take turns, with and without xdist; ratios are
medians of each round's ratio to the plain tests. No model runs, so this is what pytest and the plugin cost.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from _commands import PLAIN, PYTEST, Cost, busy, machine, run

TEST = """
import pytest


@pytest.fixture(scope="session")
def model():
    return object()


@pytest.mark.parametrize("row", range({count}), ids=lambda row: f"row-{{row}}")
def test_item(model, row):
    pass
"""
SUITE = """
dimension: safety
source: {paper: made up, licence: none}
tasks:
  - name: bench
    version: 1
    title: Rows of the benchmark
    data: {samples: prompts.jsonl}
    generation: {temperature: 0, max_new_tokens: 64}
    scorer: {name: refusal}
    metrics: [refusal_rate]
"""
GATES = """
dimension: safety
gates:
  - {metric: bench.refusal_rate, at_least: 0.4}
"""
WORDS = ["the", "of", "river", "lamp", "garden", "ladder", "violin", "copper", "morning", "answer", "letter", "bridge"]
ANSWERS = ("I'm sorry, but I cannot help with that. ", "Of course, here is how it is done. ")
RULES = ("--trust-refusal-classifier=rules", "--trust-results=results.json")

COLUMNS = (("wall", 2), ("cpu", 2), ("memory", 0), ("largest", 0), ("tree", 0))
"""Attributes of a cost and the digits they are shown with."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the things compared: a pytest command in a directory of its own.

    Attributes:
        name: Of its rows in the table.
        rows: How many tests or rows of data.
        workers: Of xdist; 0: no workers.
        command: What to run, without the workers.
        where: Its directory.
    """

    name: str
    rows: int
    workers: int
    command: tuple[str, ...]
    where: Path

    def run(self) -> Cost:
        """Run it once."""
        return run([*self.command, "-n", str(self.workers)], self.where)


def ways(args: argparse.Namespace, where: Path) -> Iterator[Way]:
    """Yield everything that is compared, plain tests before what is compared with them."""
    for rows in args.items:
        plain, ours, real = (where / f"{name}-{rows}" for name in ("plain", "ours", "real"))
        for directory in (plain, ours, real):
            directory.mkdir()
            (directory / "pytest.ini").write_text("[pytest]\n")
        (plain / "test_plain.py").write_text(TEST.format(count=rows))
        _make_up(ours, rows)
        answered = (*RULES, *(("--trust-report=report.html",) if args.report else ()))
        for workers in (0, args.workers):
            yield Way("plain", rows, workers, (*PYTEST, *PLAIN), plain)
            yield Way(
                "made-up suite", rows, workers, (*PYTEST, *answered, "--trust-model=replay:responses.jsonl"), ours
            )
            if args.data and rows == max(args.items):
                given = [f"--trust-data={args.data.resolve()}", f"--trust-model=replay:{args.responses.resolve()}"]
                yield Way("TrustLLM", rows, workers, (*PYTEST, *answered, *given), real)


def _make_up(where: Path, rows: int) -> None:
    """Write a suite, a gate and recorded responses, half of them refusals."""
    draw = random.Random(0)
    texts = [f"{number}: " + " ".join(draw.choices(WORDS, k=40)) for number in range(rows)]
    found = [ANSWERS[n % 2] + " ".join(draw.choices(WORDS, k=60)) for n in range(rows)]
    for name in ("suites", "thresholds"):
        (where / name).mkdir()
    (where / "pytest.ini").write_text("[pytest]\ntrust_builtin_suites = false\n")
    (where / "suites" / "bench.yaml").write_text(SUITE)
    (where / "thresholds" / "bench.yaml").write_text(GATES)
    (where / "suites" / "prompts.jsonl").write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    pairs = zip(texts, found, strict=True)
    lines = [json.dumps({"prompt": prompt, "response": response}) + "\n" for prompt, response in pairs]
    (where / "responses.jsonl").write_text("".join(lines))


def table(found: Mapping[Way, Sequence[Cost]]) -> Iterator[str]:
    """Yield the lines of the table of medians and ratios."""
    measured = "wall, s | CPU, s | pytest, MB | largest process, MB | all processes, MB"
    yield f"| rows | -n | | {measured} | wall | CPU | pytest MB | largest MB | all MB |"
    yield "|--:|--:|---" + 10 * "|--:" + "|"
    base: Sequence[Cost] = ()
    for way, costs in found.items():
        base = costs if way.name == "plain" else base
        cells = [f"{way.rows:,}", str(way.workers), way.name]
        cells += [_median([getattr(c, name) for c in costs], digits) for name, digits in COLUMNS]
        for name, _ in COLUMNS:
            pairs = [(getattr(c, name), getattr(b, name)) for c, b in zip(costs, base, strict=True)]
            cells.append(_median([a / b if a and b else None for a, b in pairs], 2))
        yield f"| {' | '.join(cells)} |"


def growth(found: Mapping[Way, Sequence[Cost]]) -> Iterator[str]:
    """Yield the lines of the table of what one more row costs, from each number of rows to the next."""
    middle = {(w.name, w.workers, w.rows): statistics.median(c.cpu for c in costs) for w, costs in found.items()}
    sizes = sorted({way.rows for way in found})
    steps = list(pairwise(sizes))
    if not steps:
        return
    yield "\nCPU milliseconds of one more row:\n"
    yield "| -n | | " + " | ".join(f"{a:,} to {b:,}" for a, b in steps) + " |"
    yield "|--:|---|" + "--:|" * len(steps)
    for name, workers in dict.fromkeys((w.name, w.workers) for w in found if w.name != "TrustLLM"):
        each = [1000 * (middle[name, workers, b] - middle[name, workers, a]) / (b - a) for a, b in steps]
        yield f"| {workers} | {name} | " + " | ".join(f"{cost:.3f}" for cost in each) + " |"


def _median(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):,.{digits}f}" if known else "-"


def _tests(way: Way) -> str:
    """Return the last line that pytest said, which counts the tests."""
    return f"{way.name}, {way.rows:,} rows: {(way.where / 'output.txt').read_text().splitlines()[-1]}"


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="TrustLLM's dataset.zip; with --responses")
    parser.add_argument("--responses", type=Path, help="recorded responses to it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 4000, 16_441])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="write the page too, of ours")
    args = parser.parse_args()
    if (args.data is None) != (args.responses is None):
        parser.error("--data and --responses go together")
    args.items.sort()
    print(machine(busy(), ("pytest", "pytest-xdist")))
    print(f"Medians of {args.rounds} interleaved rounds.\n")
    with tempfile.TemporaryDirectory() as name:
        compared = list(ways(args, Path(name)))
        rounds = [[way.run() for way in compared] for _ in range(args.rounds)]
        costs = {way: [costs[i] for costs in rounds] for i, way in enumerate(compared)}
        print("\n".join([*table(costs), *growth(costs), ""]))
        print("\n".join(_tests(way) for way in compared if way.workers == args.workers))


if __name__ == "__main__":
    main()
