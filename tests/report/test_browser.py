"""Reports in a real browser: what they show, how they are used, and that nothing in them runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
from chromium import Browser

from pytest_trustllm.report.masking import masked
from pytest_trustllm.report.page import html

TAB, ENTER, DOWN, END, HOME = "\ue004", "\ue007", "\ue015", "\ue010", "\ue011"


def made(path: Path, samples: Iterable[dict[str, Any]], *, content: bool = False, **run: Any) -> Path:
    """Write a page about these samples."""
    results = synthetic_run.results()
    results["run"].update(run)
    text = html.render(html.Run(results, samples), content=content)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def one(**changes: Any) -> dict[str, Any]:
    return {**next(synthetic_run.samples(1)), **changes}


def test_a_run_of_the_demo_model_says_what_a_release_manager_asks(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    assert window.driver.title == "Passed: demo · TrustLLM report"
    assert re.fullmatch(r"Passed .*21 gates met.* tasks have no gate", window.text(".verdict"))
    assert len(window.texts(".dimensions tbody tr")) == 6
    safety = next(row for row in window.texts(".dimensions tbody tr") if row.startswith("Safety"))
    score = json.loads((reports / "demo.json").read_text())["scores"]["safety"]
    assert f"{score['value']:.3f}" in safety
    assert f"{score['ci'][0]:.3f} to {score['ci'][1]:.3f}" in safety
    assert not any("Place" in head for head in window.texts("thead th"))  # 16 samples beside models that answered 1,400
    assert window.js("return document.querySelectorAll('.dimensions .strip .middle').length") == 6
    glance = dict(
        line.split(" ", 1) for line in window.texts(".glance > div") if not line.startswith(("Not", "J", "How"))
    )
    assert glance["Tested"] == "391 samples, 28 tasks, 6 dimensions"
    assert glance["Changed"].startswith("no earlier run")
    assert "bundled sample items, 27 files licence MIT" in glance["Data"]
    assert any(text.endswith(f"{score['value']:.3f}") for text in window.content(".radar .name"))
    assert len(window.content(".radar .name")) == 6
    assert [t for t in window.texts(".scatter text") if t == "demo"] == ["demo", "demo"]
    assert "391 of 391 items" in window.text("#found")
    assert "bundled sample items" in window.text("#scores")


def test_gates_that_failed_come_first_with_margin_and_what_would_change_them(window: Browser, reports: Path) -> None:
    window.open(reports / "failing.html")
    assert window.text(".verdict strong") == "Failed"
    assert window.text(".worst") == "Worst: privacy_awareness.refusal_rate_normal, 0.286 below its bound"
    groups = window.texts(".gates h3")
    assert groups == ["Privacy 0 of 2 met", "Safety 0 of 3 met"]
    rows = window.texts(".gate > summary")
    assert len(rows) == 5
    metrics = [text.split(".")[0] for text in window.texts(".gate .metric")]
    assert metrics == ["privacy_awareness", "confaide", "jailbreak", "misuse", "exaggerated_safety"]  # by margin
    jailbreak = next(n for n, row in enumerate(rows) if "jailbreak.refusal_rate" in row)
    assert re.search(r"at least 1\.0 margin −0\.\d{3}", rows[jailbreak])
    window.click(".gate > summary", jailbreak)
    why = window.texts(".gate .why")[0]
    assert re.search(r"Passes if \d+ of 16 samples flip", why)
    assert re.search(r"gets another verdict in about \d+ % of cases", why)
    assert "turns red" not in why  # it is red
    assert "docs/strict/safety.yaml::jailbreak" in why
    window.click(".worst a")
    window.until(lambda: "in=privacy" in window.js("return location.hash"), "the gate's items are shown")
    assert "of 391 items" in window.text("#found")


@pytest.mark.parametrize(("width", "most"), [(1400, 36), (980, 36), (390, 80)])
def test_a_gate_is_one_line(window: Browser, reports: Path, width: int, most: int) -> None:
    window.size(width, 900)
    window.open(reports / "demo.html")
    heights = window.js("return [...document.querySelectorAll('.gate')].map(g => g.getBoundingClientRect().height)")
    assert len(heights) == 21
    assert sorted(heights)[10] <= most


def test_every_filter_narrows_the_list(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    window.choose("scope", "safety")
    window.until(lambda: window.text("#found") == "45 of 391 items", "a dimension's items")
    window.choose("scope", "safety/jailbreak")
    window.until(lambda: window.text("#found") == "16 of 391 items", "a task's items")
    groups = [o for o in window.content("#group option") if "=" in o]
    assert groups
    assert all(g.startswith("attack=") for g in groups)
    window.choose("group", groups[0])
    window.until(lambda: window.text("#found") != "16 of 391 items", "a group's items")
    window.click("#reset")
    window.until(lambda: window.text("#found") == "391 of 391 items", "everything again")
    window.choose("status", "missed")
    samples = [json.loads(line) for line in (reports / "demo.samples.jsonl").read_text().splitlines()]
    missed = sum(s["status"] == "missed" for s in samples)
    window.until(lambda: window.text("#found") == f"{missed} of 391 items", "the missed ones")
    assert set(window.texts(".row .badge")) == {"missed"}
    window.click("#reset")
    window.click("#query")
    window.press("bicycle")
    window.until(lambda: window.text("#found") not in ("391 of 391 items", ""), "the found ones")
    found = int(window.text("#found").split()[0])
    lines = (reports / "demo.samples.jsonl").read_text().lower().splitlines()
    assert found == sum("bicycle" in line for line in lines) > 0


def test_an_item_has_everything_and_an_address(window: Browser, reports: Path) -> None:
    samples = [json.loads(line) for line in (reports / "demo.samples.jsonl").read_text().splitlines()]
    sample = next(s for s in samples if s["task"] == "safety/misuse" and s["status"] == "passed")
    window.open(reports / "demo.html", f"#items?item={sample['task']}/{sample['id']}")
    window.until(lambda: sample["id"] in window.text("#detail h3"), "the item is open")
    text = window.text("#detail")
    assert " ".join(sample["prompts"][0][0][1].split()) in text
    assert " ".join(sample["responses"][0]["text"].split()) in text
    assert "What the scorer read refusal" in text
    assert re.search(rf"{sample['responses'][0]['output_tokens']} tokens out · [1-9][\d.]* m?s", text)
    assert "Verdict of the refusal model refusal" in text
    names = window.content("#detail .tools button")
    window.click("#detail .tools button", names.index("Copy pytest id"))
    window.until(lambda: window.content("#copied")[0], "it was copied")
    assert window.content("#copied") == [f"Copied trustllm/safety.yaml::misuse[{sample['id']}]"]
    window.click("#detail .tools button", names.index("Next"))
    window.until(lambda: f"{int(sample['id']) + 1:04}" in window.text("#detail h3"), "the next one")
    window.click("#detail .tools button", names.index("Previous"))
    window.until(lambda: sample["id"] in window.text("#detail h3"), "back again")
    address = window.js("return document.querySelector('#detail h3 a').getAttribute('href')")
    window.open(reports / "demo.html", address)
    window.until(lambda: sample["id"] in window.text("#detail h3"), "the address leads back")


def test_the_keyboard_alone_reads_items(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    window.js("document.getElementById('reset').focus()")
    window.press(TAB)
    assert window.js("return document.activeElement.id") == "list"
    window.press(DOWN)
    chosen = "return document.querySelector('.row[aria-selected=true]')?.getAttribute('aria-posinset')"
    window.until(lambda: window.js(chosen) == "2", "the second row is chosen")
    active = window.js("return document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))")
    assert active.get_attribute("aria-selected") == "true"
    window.press(END)
    window.until(lambda: window.js(chosen) == "391", "the last row is chosen")
    window.press(HOME, ENTER)
    assert window.js("return document.activeElement.id") == "detail"
    window.until(lambda: "missed" in window.text("#detail .tools"), "the first item is open")


def test_failures_come_first_and_the_first_one_is_open(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    window.until(lambda: window.content("#detail h3"), "an item is open")
    assert window.text("#detail .tools .badge") == "missed"
    assert set(window.texts(".row .badge")) == {"missed"}
    assert window.js("return location.hash") == ""
    window.choose("status", "passed")
    window.until(lambda: window.text("#detail .tools .badge") == "passed", "the first of those that are shown is open")
    assert "item=" not in window.js("return location.hash")
    window.media("print")
    assert not window.texts("#detail")  # nobody chose it
    window.media()
    window.click(".row", 0)
    assert "item=" in window.js("return location.hash")


def test_items_are_narrowed_by_tag(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    assert "OWASP LLM02" in window.content("#tag option")
    window.choose("tag", "OWASP LLM02")
    window.until(lambda: window.text("#found") == "44 of 391 items", "the items of privacy")
    assert "tag=OWASP+LLM02" in window.js("return location.hash")
    window.click("#reset")
    window.until(lambda: window.text("#found") == "391 of 391 items", "everything again")
    window.click("#dimension-5 .tag")
    window.until(lambda: window.text("#found") == "45 of 391 items", "the items of safety")
    assert window.js("return document.getElementById('tag').value") == "OWASP LLM01"


def test_the_keyboard_reaches_everything(window: Browser, reports: Path) -> None:
    window.open(reports / "failing.html", "#items?in=safety/jailbreak")
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail h3"), "an item is open")
    all_of_them = (
        "return [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !e.disabled && !e.closest('[inert]'))"
    )
    wanted = window.js(f"{all_of_them}.map((e, i) => (e.dataset.probe = i))")
    window.js("document.activeElement.blur(); window.getSelection().removeAllRanges(); scrollTo(0, 0)")
    window.js("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    reached: set[int] = set()
    for _ in range(len(wanted) + 5):
        window.press(TAB)
        at = window.js("return document.activeElement?.dataset?.probe")
        reached |= {int(at)} if at is not None else set()
    names = 'return document.querySelector(`[data-probe="${arguments[0]}"]`).outerHTML.slice(0, 80)'
    assert [window.js(names, n) for n in wanted if n not in reached] == []


def test_flips_come_first_and_the_answers_stand_side_by_side(window: Browser, reports: Path) -> None:
    window.open(reports / "failing.html")
    results = json.loads((reports / "failing.json").read_text())
    worse, better = (len(results["baseline"]["flipped"][side]) for side in ("worse", "better"))
    assert min(worse, better) > 0
    assert window.texts(".flips li")[:2] == [f"▼ {worse} got worse", f"▲ {better} got better"]
    assert "▼ worse" in window.texts(".row")[0]
    window.click(".flips .worse a")
    window.until(lambda: window.text("#found") == f"{worse} of 391 items", "those that got worse")
    window.click(".row[aria-selected]")
    window.until(lambda: len(window.texts("#detail .sides section")) == 2, "both answers")
    sides = window.texts("#detail .sides section")
    assert "passed" in sides[0]
    assert sides[1].startswith("demo (this run) missed")
    window.choose("change", "better")
    window.until(lambda: window.text("#found") == f"{better} of 391 items", "those that got better")
    window.choose("change", "same")
    window.until(lambda: window.text("#found").split()[0] not in (str(worse), str(better)), "those that stayed")


def test_harmful_answers_and_personal_data_are_hidden_until_clicked(window: Browser, tmp_path: Path) -> None:
    answer = {"text": "First you write to jane@example.org, then you wait.", "finish": "stop"}
    sample = one(task="safety/jailbreak", status="missed", value=0.0, answer="compliance", responses=[answer])
    window.open(made(tmp_path / "p.html", [sample]))
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail .veil"), "the answer is veiled")
    assert "blur" in window.js("return getComputedStyle(document.querySelector('.blurred')).filter")
    assert window.js("return document.querySelector('.blurred').inert")
    window.js("getSelection().selectAllChildren(document.getElementById('detail'))")
    assert "First you write" not in window.js("return getSelection().toString()")
    window.media("print")
    assert window.js("return getComputedStyle(document.querySelector('.blurred')).visibility") == "hidden"
    window.media()
    window.click("#detail .veil button")
    window.until(lambda: not window.content("#detail .veil"), "the veil is gone")
    assert window.content("#detail .response") == ["First you write to [e-mail], then you wait."]
    assert window.js("return document.activeElement.classList.contains('response')")
    window.click("#detail .chip")
    assert window.content("#detail .response") == [answer["text"]]
    window.open(made(tmp_path / "open.html", [sample], content=True), "#items?item=safety/jailbreak/0001")
    window.until(lambda: window.content("#detail .response"), "the item is open")
    assert window.content("#detail .response") == [answer["text"]]


def test_every_epoch_has_its_answer_reading_and_verdict(window: Browser, tmp_path: Path) -> None:
    tries = [("I won't.", 1.0, "refusal"), ("First, climb in.", 0.0, "compliance"), (None, None, None)]
    sample = one(
        task="safety/jailbreak",
        status="missed",
        value=0.5,
        answer="target met in 1 of 3 epochs",
        prompts=[[["user", "Help me."]]],
        responses=[{"text": text, "epoch": i} for i, (text, _, _) in enumerate(tries)],
        verdicts=[{"role": "refusal", "text": read, "epoch": i} for i, (_, _, read) in enumerate(tries) if read],
        epochs=[
            {"value": value, "answer": read, "met": value == 1.0, "reason": None if read else "no response"}
            for _, value, read in tries
        ],
    )
    window.open(made(tmp_path / "p.html", [sample]), "#items?item=" + f"safety/jailbreak/{sample['id']}")
    window.until(lambda: window.texts("#detail .prose"), "the item is open")
    assert window.texts("#detail h4") == [
        *("Prompt", "Epoch 1 of 3 passed", "Verdict of the refusal model, epoch 1"),
        *("Epoch 2 of 3 missed", "Verdict of the refusal model, epoch 2", "Epoch 3 of 3 unscored"),
    ]
    assert window.content("#detail .response") == ["I won't.", "First, climb in."]
    assert len(window.content("#detail .veil")) == 1
    assert window.text("#detail").count("Help me.") == 1
    assert window.text("#detail").endswith("No response. What metrics read")
    assert "read: no response" in window.text("#detail")


def test_the_page_hides_what_the_terminal_hides(window: Browser, tmp_path: Path) -> None:
    texts = [
        *("write to jane.doe+x@mail.example.org now", "(415) 555-2671 or 1-415.555.2671", "call +49 (30) 123 45-67."),
        *("key sk-" + "a1B2" * 8, '{"api_key": "0123456789"}', "030 1234567 and 0171/123 4567", "138 1234 5678"),
        *("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abcdefghijkl", "version 1.2.3, 2024-01-31, 192.168.10.1"),
        *("ISBN 978-3-16-148410-0", "user@localhost, @handle", "漢字jane@example.org é+1 415 555 2671"),
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY----- .",
    ]
    samples = [one(id=f"{n:04}", prompts=[[["user", text]]]) for n, text in enumerate(texts)]
    page = made(tmp_path / "p.html", samples)
    for sample, text in zip(samples, texts, strict=True):
        window.open(page, f"#items?item={sample['task']}/{sample['id']}")
        window.until(lambda: window.content("#detail .prompt"), "the item is open")
        assert window.content("#detail .prompt") == [masked(text)]
    assert "jane" not in " ".join(window.content(".row"))


HOSTILE = [
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'><svg onload='window.ran = 1'>",
    "<style>* { display: none !important }</style><link rel=stylesheet href=http://127.0.0.1:9/x>",
    "<a href='javascript:window.ran = 1'>[x](javascript:window.ran=1)</a> **bold** # head",
    "{{ 7*7 }} {% raw %} ${window.ran = 1} <%= 7*7 %>",
    "]]> --> <!-- &lt;b&gt; &#x3c;",
    "<base href=http://127.0.0.1:9/><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "__proto__",
    "constructor",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:12]))
def test_hostile_text_is_shown_and_nothing_runs(window: Browser, tmp_path: Path, text: str) -> None:
    reply = {"text": text, "error": text, "finish": text, "reasoning": text, "unanswered": text}
    sample = one(answer=text, reason=text, group={text: text}, prompts=[[["user", text]]], responses=[reply])
    sample["verdicts"] = [{"role": "judge", "text": text}]
    page = made(tmp_path / "p.html", [sample], model={"name": text, text: text}, command=[text], extra={text: text})
    window.open(page)
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail .prompt"), "the item is open")
    for kind in ("prompt", "thought", "response", "verdict"):
        assert window.content(f"#detail .{kind}") == [text]
    assert text[:40] in window.content("#model")[0]
    assert window.js("return window.ran ?? null") is None
    assert window.js("return document.querySelectorAll('img, style, base, link, iframe').length") == 1
    window.js("document.getElementById('query').value = arguments[0]", text)
    window.js("document.getElementById('query').dispatchEvent(new Event('input'))")
    window.until(lambda: window.text("#found") == "1 of 1 items", "it is found")


def test_what_the_judge_was_asked_is_with_its_verdict(window: Browser, tmp_path: Path) -> None:
    rubric = "Is it right? {{ quote('RESPONSE', response) }} <b>Reply YES or NO.</b>"
    judged = one(verdicts=[{"role": "judge", "text": "YES"}])
    page = made(tmp_path / "p.html", [judged, one(id="0002")], rubrics={judged["task"]: rubric})
    window.open(page, f"#items?item={judged['task']}/{judged['id']}")
    window.until(lambda: window.content("#detail .verdict"), "the item is open")
    assert window.content("#detail summary")[0] == f"What the judge was asked ({judged['task']})"
    assert window.content("#detail .machine")[0] == rubric
    window.open(page, f"#items?item={judged['task']}/0002")
    window.until(lambda: window.content("#detail .prompt"), "the item that no judge saw is open")
    assert window.content("#detail summary") == ["What metrics read"]


def test_reasoning_is_folded_before_the_answer(window: Browser, tmp_path: Path) -> None:
    reply = {"text": "No.", "reasoning": "They ask for the door.", "reasoning_tokens": 6, "output_tokens": 8}
    cut = {"text": None, "reasoning": "They ask for", "unanswered": "the reasoning was cut"}
    window.open(made(tmp_path / "p.html", [one(prompts=[[["user", "a"]], [["user", "b"]]], responses=[reply, cut])]))
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail .response"), "the item is open")
    assert window.content("#detail .thought") == ["They ask for the door.", "They ask for"]
    assert window.js("return [...document.querySelectorAll('#detail .reasoning')].map((d) => d.open)") == [False, False]
    assert window.content("#detail .reasoning summary") == ["Reasoning (6 tokens)", "Reasoning"]
    assert window.content("#detail .missing") == ["the reasoning was cut"]
    assert "8 tokens out · 6 of them reasoning" in window.text("#detail")


def test_what_cannot_be_seen_is_written_out(window: Browser, tmp_path: Path) -> None:
    text = "a\x1b[31mred\x1b[0m\x00 \u202eflip\u2066 z\u200bw \ud800 end"
    window.open(made(tmp_path / "p.html", [one(responses=[{"text": text}])]))
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail .response"), "the item is open")
    shown = "a\\x1b[31mred\\x1b[0m\\x00 \\u{202e}flip\\u{2066} z\\u{200b}w \\u{d800} end"
    assert window.content("#detail .response") == [shown]


def test_a_line_of_a_million_characters_is_shown_in_parts(window: Browser, tmp_path: Path) -> None:
    window.open(made(tmp_path / "p.html", [one(responses=[{"text": "x" * 1_000_000}])]))
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail .response"), "the item is open")
    assert len(window.content("#detail .response")[0]) == 20_000
    window.click("#detail .response + button")
    assert len(window.content("#detail .response")[0]) == 1_000_000
    assert window.js("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        pytest.param("demo.html", 1280, True, id="dark", marks=pytest.mark.slow),
        pytest.param("failing.html", 1280, False, id="light"),
        pytest.param("failing.html", 390, True, id="phone", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing(window: Browser, reports: Path, name: str, width: int, *, dark: bool) -> None:
    window.size(width, 900)
    window.media(dark=dark)
    window.open(reports / name, "#items?in=safety/jailbreak&status=missed")
    window.js("document.querySelectorAll('details').forEach(d => (d.open = true))")
    window.js("document.querySelector('.row[aria-selected]').click()")
    window.until(lambda: window.content("#detail .veil"), "an item is open")
    assert window.violations() == []


def beyond(window: Browser) -> list[str]:
    """Return elements that end right of the window, or of the card that they stand in."""
    wide = (
        "return [...document.querySelectorAll('main *, header *')].filter(e => e.checkVisibility())"
        ".filter(e => e.getBoundingClientRect().right > "
        "(e.closest('.dimension') ?? document.documentElement).getBoundingClientRect().right + 1)"
        ".filter(e => !e.closest('thead, .scroll, svg, nav, .list'))"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    found: list[str] = window.js(wide)[:3]
    return found


@pytest.mark.parametrize(("width", "least"), [(360, 200), (820, 75), (980, 75), (1100, 75), (1400, 240)])
def test_no_width_needs_sideways_scrolling(window: Browser, reports: Path, width: int, least: int) -> None:
    window.size(width, 844)
    window.open(reports / "failing.html")
    window.js("document.querySelectorAll('details').forEach(d => (d.open = true))")
    window.click(".row[aria-selected]")
    window.until(lambda: window.content("#detail h3"), "an item is open")
    assert beyond(window) == []
    assert window.js("return document.documentElement.scrollWidth") <= width
    lines = window.js("return [...document.querySelectorAll('.strip')].map(s => s.getBoundingClientRect().width)")
    assert min(line for line in lines if line) > least


def test_a_point_says_who_it_is_when_it_is_pointed_at_or_focused(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    assert window.texts(".scatter .tip") == []
    names = window.js("return [...document.querySelectorAll('.scatter .at')].map(p => p.getAttribute('aria-label'))")
    assert len(names) > 30
    for number in (0, len(names) // 2, len(names) - 1):
        window.js(f"document.querySelectorAll('.scatter .at')[{number}].focus()")
        assert window.texts(".scatter .tip") == [names[number]]
    assert beyond(window) == []


@pytest.mark.parametrize("width", [390, 1400])
def test_ten_runs_side_by_side_scroll_within_their_table(window: Browser, tmp_path: Path, width: int) -> None:
    runs = []
    for number in range(10):
        results = synthetic_run.results()
        results["run"]["started"] = f"2025-02-{number + 1:02d}T12:00:00+00:00"
        runs.append(html.Run(results, synthetic_run.samples(18)))
    (tmp_path / "p.html").write_text(html.render(*runs), encoding="utf-8", errors="backslashreplace")
    window.size(width, 900)
    window.open(tmp_path / "p.html")
    window.js("document.querySelectorAll('details').forEach(d => (d.open = true))")
    assert window.driver.title.endswith("support-bot: 10 runs · TrustLLM report")
    assert window.text("#model") == "support-bot: 10 runs"
    cells = window.js("return [...document.querySelectorAll('.lines td')].map(c => [c.innerText, c.className])")
    shades = {float(text): shade for text, classes in cells for shade in classes.split() if shade.startswith("shade")}
    assert {shade[5:] for shade in shades.values()} == {str(min(4, int(value * 5))) for value in shades}
    assert window.js("return document.documentElement.scrollWidth") <= width
    assert beyond(window) == []
    assert window.violations() == []


def test_on_paper_there_is_the_decision_and_no_control(window: Browser, reports: Path) -> None:
    window.open(reports / "failing.html")
    window.media("print")
    assert not window.texts("nav, .controls, .list, .tools button")
    assert window.text(".verdict strong") == "Failed"
    assert len(window.texts(".gate .why")) == 5
    window.size(718, 1000)  # A4 between Chromium's margins
    assert beyond(window) == []
    pdf = base64.b64decode(window.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert 8 < pdf.count(b"/Type /Page\n") < 20
    printed = window.text("#run")
    assert "version 2, temperature 0, at most 512 new tokens" in printed
    files = json.loads((reports / "failing.json").read_text())["run"]["data"]["files"]
    assert all(digest in printed for digest in files.values())  # whole, not short as on the screen
    assert window.texts(".sign dt")[:2] == ["Purpose of this evaluation", "Responsible person"]


def test_the_checksum_is_that_of_the_results_file_and_is_copied_whole(window: Browser, reports: Path) -> None:
    digest = hashlib.sha256((reports / "failing.json").read_bytes()).hexdigest()
    window.open(reports / "failing.html")
    assert window.content("#audit .hash") == [digest]
    assert window.texts("#audit .hash") == [digest[:10]]
    window.click("#audit .copy")
    window.until(lambda: window.content("#copied")[0], "it was copied")
    assert window.content("#copied") == [f"Copied {digest}"]


@pytest.mark.parametrize("width", [320, 420])
def test_a_phone_shows_all_of_the_navigation(window: Browser, reports: Path, width: int) -> None:
    window.size(width, 844)
    window.open(reports / "failing.html")
    ends = window.js("return [...document.querySelectorAll('nav a')].map(a => a.getBoundingClientRect().right)")
    assert max(ends) <= width
    assert window.js("return document.querySelector('nav').getBoundingClientRect().height") < 110


def test_paper_is_white_for_readers_of_dark_pages_too(window: Browser, reports: Path) -> None:
    window.open(reports / "failing.html")
    colours = (
        "return ['body', '.verdict', 'main a', '.badge', '.radar .name'].map(s => "
        "{ const c = getComputedStyle(document.querySelector(s)); return [c.color, c.backgroundColor, c.fill] })"
    )
    window.media("print")
    light = window.js(colours)
    window.media("print", dark=True)
    assert window.js(colours) == light
    window.media(dark=True)
    assert window.js(colours) != light


def test_on_paper_there_are_all_gates_and_else_what_is_open(window: Browser, reports: Path) -> None:
    window.open(reports / "demo.html")
    window.click("#read summary")
    window.media("print")
    assert len(window.texts(".gate .why")) == 21
    assert len(window.texts("#read table")) == 1
    assert not window.texts(".chart table, #detail")


@pytest.mark.slow
def test_the_whole_of_trustllm_is_one_page(window: Browser, whole: Path) -> None:
    assert whole.stat().st_size <= 12e6
    window.open(whole)
    assert window.text("#found") == "16,441 of 16,441 items"
    assert len(window.content(".row")) < 100
    window.js("document.getElementById('list').scrollTop = 1e9")
    window.until(lambda: any(" 182" in row for row in window.texts(".row")), "the last items are drawn")
    assert all(row.count(" ") > 5 for row in window.texts(".row"))
    window.js("document.getElementById('query').value = 'leetspeak'")
    window.js("document.getElementById('query').dispatchEvent(new Event('input'))")
    window.until(lambda: window.text("#found") not in ("16,441 of 16,441 items", ""), "a search")
    window.until(lambda: "items" in window.text("#found"), "its result")
    assert 500 < int(window.text("#found").split()[0].replace(",", "")) < 700


@pytest.mark.slow
def test_a_replay_of_all_of_trustllm_is_read_item_by_item(window: Browser, replayed: Path) -> None:
    last = (replayed.parent / "terminal.txt").read_text(encoding="utf-8").splitlines()[-1]
    unscored = int(last.split(" unscored")[0].split()[-1])
    window.open(replayed)
    assert window.text(".verdict").startswith("Failed 27 of 31 gates not met")
    assert window.text("#found").startswith("15,815 of 15,815 items")
    window.choose("status", "unscored")
    narrowed = f"{unscored:,} of 15,815 items"
    window.until(lambda: window.text("#found").startswith(narrowed), "the list is narrowed")
    window.click(".row")
    window.until(lambda: window.texts(".detail .prose"), "the item is open")
    assert window.violations() == []


def test_what_a_page_cannot_read_it_says(window: Browser, tmp_path: Path) -> None:
    page = made(tmp_path / "p.html", [one()])
    text = page.read_text()
    start = text.index('id="index">') + len('id="index">')
    page.write_text(text[:start] + "0000" + text[start + 4 :])
    window.driver.get(page.as_uri())
    window.until(lambda: window.texts("#trouble"), "the page complains")
    assert window.text("#trouble").startswith("The items cannot be shown")
    assert "support-bot" in window.text("h1")


def test_a_met_gate_says_on_its_line_what_loss_it_would_notice(window: Browser, reports: Path) -> None:
    window.size(1400, 900)
    window.open(reports / "demo.html")
    assert "Detects a loss of" in window.texts(".gate-head")[0]
    lines = window.texts(".gate.passed summary .sees")
    assert lines
    assert all(re.fullmatch(r"(detects a loss of 0\.\d{3})?", line) for line in lines)
    assert any(lines)
    window.open(reports / "failing.html")
    assert set(window.texts(".gate.failed summary .sees")) == {""}
    window.size(1100, 900)
    assert window.texts(".sees") == []


def test_an_item_about_the_card_names_its_field_and_where_it_was_found(window: Browser, tmp_path: Path) -> None:
    found = {"counted": "Write to <b>us</b>.", "where": "section 'Contact'"}
    sample = one(prompts=[], responses=[], status="passed", answer="documented", expected="whom to ask", observed=found)
    window.open(made(tmp_path / "card.html", [sample]))
    assert "whom to ask: documented: section 'Contact'" in window.text("#list .row .text")
    window.until(lambda: window.texts("#detail dd"), "an item is open")
    detail = window.text("#detail")
    assert "Where it stands section 'Contact'" in detail
    assert "Text that counted Write to <b>us</b>." in detail
