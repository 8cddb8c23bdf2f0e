"""Draw runs of which a part is asked, and count how often a baseline helps to estimate rightly what all would give.

Prints the table of docs/gates.md. Everything goes through the functions that a run uses. The same seed prints the same
table.

    python tools/simulate_assistance.py [--runs 400] [--seed 1]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_trustllm.stats.assisted import Stratum, assisted_mean

SIZES = ((200, 50), (1400, 100), (1400, 200), (1400, 400))
"""All samples, and those asked."""
RATES = (0.5, 0.8, 0.95)
FLIPS = (0.01, 0.02, 0.05, 0.1, 0.16, 0.3)
"""Share of the samples whose answer differs from the baseline's."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cell:
    """What a line of the table is about.

    Attributes:
        size: All samples.
        asked: Those that are asked.
        rate: Of the baseline.
        flips: Share of all samples that flip.
        lost: Share of the flips that are for the worse.
        groups: Of a macro average; 1: a plain rate.
        cluster: Samples of one source item, which mostly flip together.
    """

    size: int
    asked: int
    rate: float
    flips: float
    lost: float = 0.5
    groups: int = 1
    cluster: int = 1


@dataclass(frozen=True)
class Counted:
    """How often the interval holds, and what the baseline is worth.

    Attributes:
        holds: Share of the runs whose interval holds the value of all samples, of those that the baseline helped.
        helped: Share of the runs that the baseline helped.
        width: Mean width of the interval.
        worth: Mean number of answers that would be as precise without a baseline.
    """

    holds: float
    helped: float
    width: float
    worth: float


def draw(cell: Cell, rng: random.Random) -> tuple[list[int], list[int]]:
    """Return the numbers of a baseline and of a run of all samples; the samples of a cluster are neighbours."""
    old = [1] * round(cell.rate * cell.size)
    old += [0] * (cell.size - len(old))
    rng.shuffle(old)
    new = list(old)
    moods = [rng.gauss(0, 1) for _ in range(cell.size // cell.cluster + 1)]
    for before, share in ((1, cell.lost), (0, 1 - cell.lost)):
        members = [number for number, value in enumerate(old) if value == before]
        if cell.cluster > 1:  # those of a cluster whose mood is high flip first
            members.sort(key=lambda number: moods[number // cell.cluster] + rng.gauss(0, 0.3), reverse=True)
        else:
            rng.shuffle(members)
        for number in members[: round(share * cell.flips * cell.size)]:
            new[number] = 1 - before
    return old, new


def strata(old: Sequence[int], new: Sequence[int], asked: Sequence[int], groups: int) -> list[Stratum]:
    """Return the groups, of which the first is as large as all others together."""

    def group_of(number: int) -> int:
        if groups == 1 or number % 2:
            return 0
        return 1 + number // 2 % (groups - 1)

    parts: list[Stratum] = []
    for group in range(groups):
        members = [number for number in range(len(old)) if group_of(number) == group]
        chosen = [number for number in asked if group_of(number) == group]
        earlier = sum(old[number] for number in members) / len(members)
        parts.append(Stratum([old[n] for n in chosen], [new[n] for n in chosen], len(members), earlier))
    return parts


def true_value(old: Sequence[int], new: Sequence[int], groups: int) -> float:
    """Return the value of all samples."""
    everything = strata(old, new, range(len(new)), groups)
    return sum(sum(part.new) / part.size for part in everything) / groups


def count(cell: Cell, runs: int, seed: int) -> Counted:
    """Draw a cell many times."""
    rng = random.Random(f"{seed}/{cell}")
    held: list[bool] = []
    widths: list[float] = []
    worths: list[float] = []
    for _ in range(runs):
        old, new = draw(cell, rng)
        asked = rng.sample(range(cell.size), cell.asked)
        assisted = assisted_mean(strata(old, new, asked, cell.groups), CONFIDENCE)
        if not assisted.helps:
            continue
        low, high = assisted.limits
        held.append(low - 1e-9 <= true_value(old, new, cell.groups) <= high + 1e-9)
        widths.append(high - low)
        worths.append(assisted.worth)
    helped = len(held)
    if not helped:
        return Counted(1.0, 0.0, 0.0, float(cell.asked))
    return Counted(sum(held) / helped, helped / runs, sum(widths) / helped, sum(worths) / helped)


def cells() -> Iterator[Cell]:
    """Yield all cells in which the baseline could help."""
    for size, asked in SIZES:
        for rate in RATES:
            for flips in FLIPS:
                if flips * asked >= 2 and flips <= 2 * (1 - rate):
                    yield Cell(size, asked, rate, flips)
    for flips in (0.05, 0.1):
        yield Cell(1400, 200, 0.8, flips, lost=1.0)
        yield Cell(1400, 200, 0.8, flips, cluster=5)
        yield Cell(1400, 200, 0.8, flips, groups=4)
        yield Cell(1400, 200, 0.8, flips, groups=4, cluster=5, lost=1.0)


def what(cell: Cell) -> str:
    """Return a cell in words."""
    words = f"rate {cell.rate:g}"
    if cell.lost != 0.5:
        words += ", all flips for the worse"
    if cell.groups > 1:
        words += f", macro average of {cell.groups} groups"
    if cell.cluster > 1:
        words += f", clusters of {cell.cluster}"
    return words


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How often an estimate with a baseline's help is right.")
    parser.add_argument("--runs", type=int, default=400, help="runs per line")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| asked | runs | flips | baseline helps | holds the value of all | mean width | worth, answers |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for cell in cells():
        counted = count(cell, options.runs, options.seed)
        if counted.helped < 0.05:
            print(f"| {cell.asked} of {cell.size} | {what(cell)} | {cell.flips:.0%} | {counted.helped:.0%} | | | |")
            continue
        print(
            f"| {cell.asked} of {cell.size} | {what(cell)} | {cell.flips:.0%} | {counted.helped:.0%} | "
            f"{counted.holds:.1%} | {counted.width:.3f} | {counted.worth:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
