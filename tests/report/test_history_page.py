"""The page of a history, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - pytester forgets what a test imports, and numpy cannot be loaded twice
import pytest
import saved_run
import synthetic_run
from chromium import Browser

from pytest_trustllm.report.page.history import render
from pytest_trustllm.results import history
from pytest_trustllm.results.history_changes import changes_of, events_of

HOSTILE = "</title><script>document.title='a'</script>'\"{{ 7*7 }}<img src=x>"


def entry(number: int, name: str = "bot") -> Any:
    broken = number >= 25
    scores = [float(not (broken and place < 8)) for place in range(16)]
    records = [
        saved_run.sample_line(task="safety/jailbreak", id=f"j-{place:04}", fingerprint=f"f{place}", value=value)
        for place, value in enumerate(scores)
    ]
    document = synthetic_run.results()
    value = sum(scores) / 16
    document["metrics"]["safety/jailbreak.refusal_rate"].update(value=value, ci=[value - 0.2, min(1.0, value + 0.1)])
    document["gates"][0].update(outcome="failed" if broken else "passed", value=value)
    document["run"].update(
        id=f"{number:032}",
        started=f"2026-{number // 28 + 1:02}-{number % 28 + 1:02}T02:00:00+00:00",
        model={"name": name, "revision": "a" if number < 12 else "b"},
        roles={"judge": {"name": "judge-1" if number < 25 else "judge-2"}},
        commit={"id": f"{number:040x}", "branch": name, "changed": False},
    )
    return history.entry_of(document, records, f"../{name}/trust.html")


def page(path: Path, name: str = "bot") -> Path:
    entries = [entry(number, name) for number in range(40)]
    metrics = ["safety/score", "safety/jailbreak.refusal_rate", "ethics/awareness.accuracy", "privacy/confaide.pearson"]
    path.write_text(render(entries, metrics, changes_of(entries), events_of(entries)), encoding="utf-8")
    return path


def opened(window: Browser, path: Path) -> None:
    window.driver.get("about:blank")
    window.logs(), window.requests()
    window.driver.get(path.as_uri())


def test_change_its_cause_lines_and_gates_are_shown(window: Browser, tmp_path: Path) -> None:
    opened(window, page(tmp_path / "h.html"))
    assert window.text("h1") == "bot over 40 runs"
    found = window.text(".found")
    assert "Run 26: safety/jailbreak.refusal_rate 1.000 to 0.500" in found
    assert "Changed with it: judge: judge-1 to judge-2" in found
    assert "8 of 16 samples moved: j-0000 (1 to 0)" in found
    chart = "//figure[.//span='safety/jailbreak.refusal_rate']"
    labels = [element.text for element in window.driver.find_elements("xpath", f"{chart}//*[name()='text']")]
    assert "▼ run 26" in labels
    assert "judge" in labels
    assert "model" in labels
    assert len(window.driver.find_elements("xpath", f"{chart}//*[name()='circle']")) == 40
    strip = window.driver.find_elements("xpath", "//tr[th='safety/jailbreak.refusal_rate at least']/td")
    assert [cell.text for cell in strip] == ["✓"] * 25 + ["✕"] * 15
    links = window.driver.find_elements("css selector", "td a")
    assert links[0].get_attribute("href").endswith("/bot/trust.html")


def test_where_no_revision_is_known_no_line_can_be_drawn_and_it_is_said() -> None:
    entries = [entry(number) for number in range(30)]
    for number in (0, 1, 2, 3, 10, 25):
        del entries[number]["results"]["run"]["model"]["revision"]
        del entries[number]["results"]["run"]["roles"]["judge"]
    entries[5]["results"]["run"]["roles"]["guard"] = {"name": "never asked"}
    for each in entries:
        each["results"]["usage"]["roles"] = {"judge": {}}
    text = render(entries, ["safety/jailbreak.refusal_rate"], changes_of(entries), events_of(entries))
    (whole,) = [line for line in text.splitlines() if "No revision is recorded of" in line and "runs" in line]
    judge = "judge (runs 5 to 10, 12 to 25, 27 to 30)"
    assert f"No revision is recorded of model (runs 1 to 4, 11, 26), {judge}:" in whole
    assert "No revision is recorded of model: it may have changed." in text
    assert "bot, no revision" in text


def test_hostile_text_stays_text(window: Browser, tmp_path: Path) -> None:
    opened(window, page(tmp_path / "h.html", HOSTILE))
    assert window.driver.title.startswith("</title><script>")
    assert HOSTILE[:20] in window.text("h1")
    assert "{{ 7*7 }}" in window.text("#runs + .scroll td:nth-child(5)")
    assert window.driver.find_elements("css selector", "script, img") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_accessible_and_fits_a_phone(window: Browser, tmp_path: Path, dark: bool) -> None:
    opened(window, page(tmp_path / "h.html"))
    window.media(dark=dark)
    assert window.violations() == []
    window.size(390, 844)
    assert window.js("return document.documentElement.scrollWidth") <= 390
