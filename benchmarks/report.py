"""What a report of all of TrustLLM costs: 16,441 items with responses of 300 tokens.

    python benchmarks/report.py [--items N] [--no-browser]

It writes the page, opens it in Chromium (chromium and chromedriver must be installed), types into the search, scrolls
through the list, and opens pytest-html's report of as many tests (if pytest-html is installed) for comparison.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "report"))

import synthetic_run  # noqa: E402
from chromium import Browser  # noqa: E402

from pytest_trustllm.report.page import html  # noqa: E402

WORDS = 230  # of English are about 300 tokens


def samples(total: int) -> Iterator[dict[str, Any]]:
    """Yield samples whose texts compress as English does: passages of Python's own language reference."""
    rng = random.Random(1)
    pool = " ".join(pydoc_data.topics.topics.values()).split()
    for sample in synthetic_run.samples(total):
        at = rng.randrange(len(pool) - WORDS)
        for reply in sample["responses"]:
            if reply["text"] is not None:
                reply["text"] = " ".join(pool[at : at + WORDS])
        yield sample


def memory() -> float:
    """Return the greatest memory of this process until now, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(total: int, path: Path) -> None:
    """Write the page and say what that costs; the samples come from a file, as in a run."""
    lines = path.with_suffix(".jsonl")
    with lines.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(s) + "\n" for s in samples(total))
    command = [sys.executable, __file__, "--items", str(total), "--write", str(path)]
    subprocess.run(command, check=True)
    print(f"page: {path.stat().st_size / 1e6:.2f} MB of {lines.stat().st_size / 1e6:.1f} MB of samples")


def write_here(total: int, path: Path) -> None:
    """Write the page in this process, which has done nothing else."""
    before, start, cpu = memory(), time.perf_counter(), time.process_time()
    with path.with_suffix(".jsonl").open(encoding="ascii") as lines:
        page = html.render(html.Run(synthetic_run.results(total), map(json.loads, lines)))
    path.write_text(page, encoding="utf-8")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    each = f"{1000 * seconds / total:.3f} ms per item ({1000 * cpu / total:.3f} ms of CPU)"
    print(f"writing: {each}, {memory() - before:.0f} MB above the start")


OPEN = "return document.documentElement.dataset.ready ?? ''"
PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
SCROLL = """
const done = arguments[arguments.length - 1], list = document.getElementById("list"), frames = [];
let last = performance.now(), step = 0;
(function next(now) {
  frames.push(now - last); last = now;
  list.scrollTop = step % 2 ? list.scrollTop + 400 : (list.scrollHeight * step) / 240;
  if (++step < 240) requestAnimationFrame(next); else done(frames.slice(2));
})(last);
"""
SEARCH = """
const done = arguments[arguments.length - 1], query = document.getElementById("query"), start = performance.now();
const before = document.getElementById("found").textContent;
new MutationObserver((_, o) => {
  if (/items$/.test(document.getElementById("found").textContent)) { o.disconnect(); done(performance.now() - start); }
}).observe(document.getElementById("found"), { childList: true, characterData: true, subtree: true });
query.value = "carefully often"; query.dispatchEvent(new Event("input"));
"""


def read(path: Path) -> float:
    """Open the page and use it; return the seconds until its list can be used."""
    opened, painted = [], []
    for _ in range(3):
        browser = Browser()
        start = time.perf_counter()
        browser.driver.get(path.as_uri())
        while not browser.js(OPEN):
            time.sleep(0.01)
        opened.append(time.perf_counter() - start)
        painted.append(browser.js(PAINT))
        browser.until(lambda b=browser: b.js(OPEN) == "all", "everything is read")
        everything = time.perf_counter() - start
        frames = browser.driver.execute_async_script(SCROLL)
        search = browser.driver.execute_async_script(SEARCH)
        browser.quit()
    print(f"first paint: {statistics.median(painted):.0f} ms; usable filter: {statistics.median(opened):.2f} s (of 3)")
    print(f"everything read: {everything:.2f} s; a search after that: {search:.0f} ms, of which 120 wait for typing")
    print(f"scrolling: {len(frames)} frames, median {statistics.median(frames):.0f} ms, longest {max(frames):.0f} ms")
    return statistics.median(opened)


def pytest_html(total: int, directory: Path) -> float | None:
    """Return the seconds until pytest-html's report of as many tests shows its table."""
    test = directory / "test_many.py"
    test.write_text(
        "import pytest\n\n"
        f"@pytest.mark.parametrize('n', range({total}))\n"
        f"def test_item(n):\n    print({'word ' * WORDS!r})\n    assert n % 10\n"
    )
    page = directory / "peer.html"
    options = ["-q", "--tb=short", f"--html={page}", "--self-contained-html", "-p", "no:trustllm"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={directory}", str(test)],
        capture_output=True,
        text=True,
        check=False,
    )
    if not page.exists():
        print(f"pytest-html wrote nothing: {done.stderr.strip().splitlines()[-1:]}")
        return None
    browser = Browser()
    browser.driver.set_page_load_timeout(600)
    start = time.perf_counter()
    browser.driver.get(page.as_uri())
    while browser.js("return document.querySelectorAll('.results-table-row, tbody tr').length") < total:
        if time.perf_counter() - start > 600:
            break
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    print(f"pytest-html: {page.stat().st_size / 1e6:.1f} MB, its table is there after {seconds:.1f} s")
    browser.quit()
    return seconds


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=16_441)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_here(args.items, args.write)
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trust.html"
        write(args.items, path)
        if not args.no_browser:
            ours, theirs = read(path), pytest_html(args.items, Path(name))
            if theirs is not None:
                print(f"opening: {theirs / ours:.0f} times as fast as pytest-html")


if __name__ == "__main__":
    main()
