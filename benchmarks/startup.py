"""Start-up: plain pytest on a file with one test, with this plugin and without it, in turn.

    python benchmarks/startup.py [--rounds 20]

No model is given, so that the plugin sleeps. Ratio and difference are medians of each round's pair.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

from _commands import PLAIN, PYTEST, Cost, busy, machine, run


def measured(rounds: int) -> dict[str, list[Cost]]:
    """Run both ways once a round, and once before that, which does not count: files get cached."""
    ways = {"without": [*PYTEST, *PLAIN], "with the plugin": PYTEST}
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        (where / "pytest.ini").write_text("[pytest]\n")
        (where / "test_one.py").write_text("def test_one():\n    pass\n")
        for number in range(rounds + 1):
            for way, command in ways.items():
                cost = run(command, where, memory=False)
                if number:
                    found[way].append(cost)
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    if "trustllm" not in entry_points(group="pytest11").names:
        raise SystemExit("pytest-trustllm is not installed here, so there is nothing to compare: pip install -e .")
    print(machine(busy(), ("pytest", "pytest-xdist")))
    print(f"Medians of {rounds} interleaved rounds.\n")
    print("| one test | without, ms | with the plugin, ms | ratio of pairs | difference of pairs, ms |")
    print("|---|--:|--:|--:|--:|")
    without, plugged = measured(rounds).values()
    for clock in ("wall", "cpu"):
        a, b = ([1000 * getattr(cost, clock) for cost in costs] for costs in (without, plugged))
        middle_a, middle_b = statistics.median(a), statistics.median(b)
        difference = statistics.median(y - x for x, y in zip(a, b, strict=True))
        ratio = statistics.median(y / x for x, y in zip(a, b, strict=True))
        print(f"| {clock} | {middle_a:.1f} | {middle_b:.1f} | {ratio:.3f} | {difference:+.1f} |")


if __name__ == "__main__":
    main()
