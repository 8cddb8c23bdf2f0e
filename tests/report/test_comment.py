"""The comment on a pull request: short enough, and only text of ours is Markdown."""

from __future__ import annotations

import re
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import comment

HOSTILE = (
    "</details><!-- pytest-trustllm comment: trust -->`|\n@octocat #1 [x](https://evil.example) "
    "<img src=x> \u202e\x1b[31m"
)


def difference(worse_by: float, ci: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "old": 0.8, "new": 0.8 - worse_by, "difference": -worse_by, "worse_by": worse_by,
        "ci": None if ci is None else list(ci), "confidence": 0.95, "p_worse": 0.01, "test": "McNemar", "shared": 100,
    }  # fmt: skip


def results(**baseline: Any) -> dict[str, Any]:
    document = synthetic_run.results()
    document["baseline"] = synthetic_run.baseline(**baseline)
    return document


def test_verdict_first_then_what_changed_then_the_rest_folded() -> None:
    differences = {
        "safety/jailbreak.refusal_rate": difference(0.2, (-0.3, -0.1)),
        "ethics/awareness.accuracy": difference(-0.1, (0.02, 0.2)),
        "privacy/confaide.pearson": difference(0.01, (-0.1, 0.1)),
        "safety/score": difference(0.1, None),
    }
    text = comment.comment(results(differences=differences), url="https://ci.example/1")
    lines = text.splitlines()
    assert lines[0] == "<!-- pytest-trustllm comment: trust -->"
    assert lines[1] == "## ❌ Trust: Failed, `support-bot`"
    changed = [line for line in lines if "**worse**" in line or "**better**" in line]
    assert changed == [
        "| `safety/jailbreak.refusal_rate` **worse** | 0.800 | 0.600 | −0.200 | −0.300 to −0.100 | 100 |",
        "| `ethics/awareness.accuracy` **better** | 0.800 | 0.900 | +0.100 | +0.020 to +0.200 | 100 |",
    ]
    assert text.index("**failed**") < text.index("Changed") < text.index("<summary>Scores</summary>")
    assert text.endswith("[Whole report](https://ci.example/1)\n")


def test_without_a_sure_change_it_says_so() -> None:
    text = comment.comment(results(differences={"safety/score": difference(0.01, (-0.1, 0.1))}))
    assert "No metric changed by more than chance explains." in text


def test_without_a_baseline_nothing_is_said_of_changes() -> None:
    text = comment.comment(synthetic_run.results())
    assert "change" not in text.lower()


def hostile() -> dict[str, Any]:
    document = results(
        file=HOSTILE, model=HOSTILE, warnings=[HOSTILE], flipped={"worse": [HOSTILE], "better": []},
        tasks={"a/b": synthetic_run.pairing(3)}, differences={HOSTILE: difference(0.5, (-0.6, -0.4))},
    )  # fmt: skip
    document["run"]["model"]["name"] = HOSTILE
    for gate in document["gates"]:
        gate["id"] = f"{HOSTILE}::{HOSTILE}"
        gate["reason"] = HOSTILE
    document["scores"][HOSTILE] = document["scores"]["safety"]
    return document


def test_hostile_text_stays_text() -> None:
    markdown = pytest.importorskip("markdown_it", reason="needs markdown-it-py")
    text = comment.comment(hostile())
    assert text.count("<!-- pytest-trustllm comment") > 1  # it is there, as text:
    page = markdown.MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    plain = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)
    assert plain.count("<!--") == 1
    assert "octocat" not in plain
    assert "evil" not in plain
    assert "<img" not in plain
    assert plain.count("<details>") == plain.count("</details>")
    assert not {"\x1b", "\u202e"} & {*page}


@pytest.mark.parametrize("name", ["a" * 400, "漢" * 400, "🦙" * 400])
def test_it_always_fits(name: str) -> None:
    document = results(
        warnings=[f"{name}{i}" for i in range(400)],
        flipped={"worse": [f"{name}{i}" for i in range(4000)], "better": []},
        tasks={"a/b": synthetic_run.pairing(3)},
        differences={f"{i}{name}": difference(0.5, (-0.6, -0.4)) for i in range(500)},
    )
    document["scores"] = {f"{i}{name}": document["scores"]["safety"] for i in range(3000)}
    gate = document["gates"][2]
    document["gates"] = [{**gate, "id": f"{i}{name}", "reason": f"{i}{name}"} for i in range(1000)]
    text = comment.comment(document)
    assert len(text.encode()) <= comment.LIMIT
    assert text.startswith("<!-- pytest-trustllm comment: trust -->\n## ❌ Trust: Failed")
    assert "left out" in text
    assert text.count("<details>") == text.count("</details>")
