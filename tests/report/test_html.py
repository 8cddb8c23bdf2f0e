from __future__ import annotations

import base64
import hashlib
import html as stdlib_html
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report.page import html
from pytest_trustllm.report.page.sample_data import decode, encode, pack

HOSTILE = [
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=alert(1)>",
    "<style>body{display:none}</style>",
    "{{ 7*7 }} {% include '/etc/passwd' %} ${7*7}",
    "\x1b[31mred\x1b[0m \x00 \x07 \r",
    "\u202eright to left\u2066 \u200b\ufeff",
    "lone \ud800 surrogate \udfff",
    "]]> --> <!-- \\ud800 \\\ud800",
    "javascript:alert(1)",
    "x" * 1_000_000,
]


def render(results: dict[str, Any], samples: Iterable[dict[str, Any]]) -> str:
    return html.render(html.Run(results, samples))


class Page(HTMLParser):
    """Tags, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "style":
            self.styles.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attrs, before = self.scripts[-1]
            self.scripts[-1] = attrs, before + data
        elif self.cdata_elem == "style":
            self.styles[-1] += data
        else:
            self.text += data


def unfold(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Do what the page's script does with a block of columns."""
    for key in ("responses", "verdicts"):
        if key in block:
            inner = iter(unfold(block[key]["columns"]))
            block[key] = [[next(inner) for _ in range(size)] for size in block[key]["sizes"]]
    return [dict(zip(block, values, strict=True)) for values in zip(*block.values(), strict=True)]


def records_of(page: Page) -> list[dict[str, Any]]:
    """Return the records in the order of the page's list."""
    blocks = [unfold(decode(text)) for attrs, text in page.scripts if attrs.get("class") == "block"]
    index = next(decode(text) for attrs, text in page.scripts if attrs.get("id") == "index")
    return [blocks[block][at] for block, at in zip(index["block"], index["at"], strict=True)]


def known(value: Any) -> Any:
    """Drop what a page does not tell apart: null and absent; shorten what it shortens."""
    if isinstance(value, dict):
        return {k: v[:12] if k == "fingerprint" else known(v) for k, v in value.items() if v is not None and v != []}
    return [known(v) for v in value] if isinstance(value, list) else value


def saved(text: str) -> str:
    """Return the page as it is after writing and reading."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def test_the_page_gives_back_every_record() -> None:
    samples = list(synthetic_run.samples(900))
    page = Page(saved(render(synthetic_run.results(900), iter(samples))))
    found = {(r["task"], r["id"]): known(r) for r in records_of(page)}
    assert found == {(s["task"], s["id"]): known(s) for s in samples}


def test_the_list_is_in_the_order_of_tasks_and_ids_whatever_the_order_of_arrival() -> None:
    samples = list(synthetic_run.samples(900))
    first, second = (
        [(r["task"], r["id"]) for r in records_of(Page(render(synthetic_run.results(900), order)))]
        for order in (samples, samples[::-1])
    )
    assert first == second
    assert first[0] == ("truthfulness/hallucination", "0001")
    assert first[-1] == ("ethics/awareness", "0100")


def test_equal_runs_give_equal_pages() -> None:
    one, two = (render(synthetic_run.results(), synthetic_run.samples(90)) for _ in range(2))
    assert one == two


def test_every_id_is_on_the_page() -> None:
    results = synthetic_run.results()
    page = Page(render(results, synthetic_run.samples(90)))
    for gate in results["gates"]:
        assert gate["id"] in page.text
        assert gate["reason"] in page.text
    for id_ in results["metrics"]:
        assert id_.partition("/")[2] in page.text
    assert "support-bot" in page.text


def test_numbers_are_short_with_their_full_value_beside_them() -> None:
    page = Page(render(synthetic_run.results(), synthetic_run.samples(90)))
    full = [attrs for tag, attrs in page.tags if tag == "data" and attrs["value"] == "0.123456789"]
    assert full
    assert all(attrs["title"] == "0.123456789" for attrs in full)
    assert "0.123" in page.text


def test_only_our_style_and_script_may_run() -> None:
    page = Page(render(synthetic_run.results(), synthetic_run.samples(90)))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    runs = [text for attrs, text in page.scripts if "type" not in attrs]
    for texts, kind in ((runs, "script-src"), (page.styles, "style-src")):
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_script_names_each_function_once() -> None:
    script = Page(render(synthetic_run.results(), [])).scripts[-1][1]
    names = re.findall(r"function\*? (\w+)", script)
    assert len(names) == len(set(names)) > 20


def test_the_script_inserts_text_only() -> None:
    script = Page(render(synthetic_run.results(), [])).scripts[-1][1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc", script)


def test_nothing_points_outside_the_page() -> None:
    page = Page(render(synthetic_run.results(), synthetic_run.samples(90)))
    for tag, attrs in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert "src" not in attrs
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert (attrs.get("href") or "#").startswith("#")
        assert "action" not in attrs


def hostile_run(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    results, samples = synthetic_run.results(), list(synthetic_run.samples(9))
    results["run"]["model"] = {"name": text, text: text}
    results["run"]["command"] = [text]
    results["run"]["data"] = {"source": text, "files": {text: text}}
    results["gates"].append({**results["gates"][0], "id": text, "reason": text, "outcome": "failed", "metric": text})
    results["metrics"][f"safety/{text}.rate{{group={text}}}"] = dict(results["metrics"]["safety/toxicity.mean"])
    for sample in samples:
        sample.update(answer=text, reason=text, value=None, group={"attack": text})
        sample.update(prompts=[[["user", text]]], responses=[{"text": text, "error": text}])
        sample.update(verdicts=[{"role": "judge", "text": text}])
    return results, samples


def shape(page: Page) -> list[tuple[str, set[str]]]:
    """Return tags and names of attributes.

    Labels in charts are left out, for a longer one leaves others no room, and so are joints of long names.
    """
    assert not [attrs for tag, attrs in page.tags if tag == "wbr" and attrs]
    return [(tag, set(attrs)) for tag, attrs in page.tags if tag not in ("text", "wbr")]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:12]))
def test_hostile_text_is_data(text: str) -> None:
    plain = Page(render(*hostile_run("harmless")))
    whole = saved(render(*hostile_run(text)))
    page = Page(whole)
    assert shape(page) == shape(plain)
    assert page.styles == plain.styles
    assert page.scripts[-1] == plain.scripts[-1]
    assert {r["prompts"][0][0][1] for r in records_of(page)} == {text}
    assert not [c for c in whole if not c.isprintable() and c not in "\n\u00a0"]


def test_template_syntax_is_not_rendered() -> None:
    page = render(*hostile_run("{{ 7*7 }}"))
    assert "{{ 7*7 }}" in stdlib_html.unescape(page)


@pytest.mark.parametrize("lacking", ["prompts", "responses", "verdicts"])
def test_a_record_without_a_transcript_is_shown_too(lacking: str) -> None:
    samples = [{k: v for k, v in s.items() if k != lacking} for s in synthetic_run.samples(9)]
    assert len(records_of(Page(render(synthetic_run.results(), samples)))) == 9


def test_a_run_without_samples_and_gates_has_a_page() -> None:
    results = {**synthetic_run.results(), "metrics": {}, "scores": {}, "gates": []}
    text = Page(render(results, [])).text
    assert "No sample ran." in text
    assert "there are no gates" in text


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (["passed", "passed"], "Passed all 2 gates met"),
        (["passed", "skipped"], "Passed 1 gate met; 1 skipped"),
        (["passed", "failed", "no_data", "inconclusive"], "Failed 3 of 4 gates not met"),
        (["skipped", "skipped"], "Not judged all 2 gates skipped"),
    ],
)
def test_the_verdict_counts_gates(outcomes: list[str], sentence: str) -> None:
    results = synthetic_run.results()
    results["gates"] = [{**results["gates"][0], "outcome": o} for o in outcomes]
    assert sentence in re.sub(r"\s+", " ", Page(render(results, [])).text)


def test_a_partial_selection_is_said_at_the_top() -> None:
    results = synthetic_run.results()
    results["run"]["selection"] = "partial"
    text = Page(render(results, [])).text
    assert text.index("Partial selection") < text.index("Trust scores")


def test_the_formula_of_a_trust_score_is_in_words() -> None:
    text = Page(render(synthetic_run.results(), [])).text
    assert "hallucination.accuracy (0.310), sycophancy_persona.similarity_gap (1\u00a0−\u00a00.875)" in text
    assert "Without a value and left out: adversarial_factuality.corrected_rate." in text


def test_planned_samples_without_a_record_are_among_the_unscored() -> None:
    results = synthetic_run.results()
    results["coverage"]["safety/jailbreak"].update(scored=8, lost=2)
    assert "no record: the test did not run to its end" in Page(render(results, [])).text


def test_counts_and_reasons_are_those_of_the_records() -> None:
    samples = list(synthetic_run.samples(90))
    packed = pack(samples, [])
    assert packed.total == 90
    assert sum(sum(c.values()) for c in packed.counts.values()) == 90
    unscored = [s for s in samples if s["value"] is None]
    also = [a for s in samples for a in s["also"].values() if a["value"] is None]
    assert sum(packed.reasons.values()) == len(unscored) + len(also)


def test_samples_a_task_does_not_concern_are_not_unscored() -> None:
    sample = {**next(synthetic_run.samples(1)), "value": None, "reason": "a refusal", "applies": False}
    assert pack([sample], []).reasons == {}


@pytest.mark.parametrize("value", [*HOSTILE, "", [], {"a": [1.5, None, True]}, "é漢🙂"], ids=lambda v: ascii(v)[:12])
def test_encoding_gives_back_what_it_was_given(value: object) -> None:
    text = encode(value)
    assert decode(text) == value
    assert re.fullmatch(r"[!-;=-~]+", text)


def test_numbers_that_json_lacks_become_words() -> None:
    assert decode(encode({"a": [float("nan"), float("inf")]})) == {"a": ["nan", "inf"]}


def test_sixteen_thousand_items_fit() -> None:
    total = 4000
    page = render(synthetic_run.results(total), synthetic_run.samples(total, words=230))
    raw = sum(len(json.dumps(s)) for s in synthetic_run.samples(total, words=230))
    assert len(page) < 12e6 * total / 16441
    assert len(page) < raw / 2


def test_votes_and_near_ties_stand_in_the_page_where_there_are_some() -> None:
    results = synthetic_run.results()
    assert "stability-title" not in render(results, synthetic_run.samples(5))
    results["judging"] = {"votes": 3, "samples": 12, "agreement": 0.875, "unanimous": 0.75}
    results["run"]["model"]["about"] = {"batch_effects": "possible"}
    results["usage"] |= {"requests": 100, "cached": 20, "near_ties": 7}
    page = render(results, synthetic_run.samples(5))
    assert "<p>judge: 3 votes a verdict; 87.5% agree, unanimous for 75.0% of 12 samples</p>" in page
    assert "<p>reduced precision: batch effects possible; near-ties in 7 of 120 answers</p>" in page
    assert '<a href="#stability">Stability</a>' in page
