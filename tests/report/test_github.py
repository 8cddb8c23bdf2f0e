"""What GitHub Actions is told, and what it must not be told by a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import synthetic_run

from pytest_trustllm.report import github

HOSTILE = [
    "::error file=x::boom",
    "  ::add-mask::a",
    "##[error]boom",
    "line\n::set-output name=a::b\r::warning::x",
    "| cell | `code` <img src=x onerror=alert(1)> @octocat https://evil.example [x](y) $\\alpha$",
    "</details><script>alert(1)</script>",
    "\x1b[31mred \u202eflip",
]


def results(**gate: Any) -> dict[str, Any]:
    found = synthetic_run.results()
    found["gates"] = [{**synthetic_run.results()["gates"][2], **gate}]
    return found


def test_the_summary_says_verdict_scores_gates_and_reasons() -> None:
    found = synthetic_run.results()
    found["scores"]["safety"]["ci"] = [0.4, 0.6]
    text = github.summary(found, [("safety/toxicity", "no toxicity model", 3), ("a/b", "no toxicity model", 2)])
    assert text.startswith("## ❌ Trust: Failed, `support-bot`\n\n2 of 5 gates not met; 1 skipped.\n")
    assert re.search(r"\| `safety` \| 0\.\d{3} \| 0\.400 to 0\.600 \| 3 of 3 \|", text)
    assert "| `thresholds/privacy.yaml::confaide.pearson[at_least]` | **failed** | 0.310 | `at_least 0.4`" not in text
    assert "| **failed** | 0.310 | `at least 0.4` | `confaide.pearson = 0.310 < 0.4` |" in text
    assert "| 5 | `no toxicity model` |" in text


def test_the_summary_says_what_flipped_since_the_baseline() -> None:
    found = synthetic_run.results()
    found["baseline"] = synthetic_run.baseline(
        model="bot",
        warnings=["the baseline's seed is 0, this run's 3"],
        flipped={"worse": [f"safety/jailbreak[{i:04}]" for i in range(25)], "better": ["ethics/ethics[0001]"]},
        tasks={"safety/jailbreak": synthetic_run.pairing(1400), "ethics/ethics": synthetic_run.pairing(500)},
    )
    text = github.summary(found, [])
    assert "Against `old.json` (`bot`): **25 got worse**, 1 better, of 1,900 shared samples." in text
    assert "Got worse: `safety/jailbreak[0000]`, `" in text
    assert "`safety/jailbreak[0019]` and 5 more\n" in text
    assert "- `the baseline's seed is 0, this run's 3`" in text


def test_a_partial_selection_and_a_run_without_gates_are_said() -> None:
    found = synthetic_run.results()
    found["run"]["selection"], found["gates"] = "partial", []
    text = github.summary(found, [])
    assert "Not judged" in text
    assert "**Partial selection.**" in text


def test_gates_that_did_not_pass_become_annotations_in_their_file() -> None:
    file, title = "::error file=thresholds/", "yaml,title=Trust gate"
    assert github.commands([synthetic_run.results()], Path()) == [
        f"{file}privacy.{title} failed%3A confaide.pearson[at_least]::confaide.pearson = 0.310 < 0.4",
        f"{file}truthfulness.{title} no data%3A score[at_least]::no data: the metric has no value",
    ]


def test_an_annotation_stands_at_its_gate() -> None:
    (command,) = github.commands([results(line=7)], Path())
    assert command.startswith("::error file=thresholds/privacy.yaml,line=7,title=")


def test_an_annotation_of_a_project_below_the_checkout_finds_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    for root, file in ((tmp_path / "services" / "bot", "services/bot/thresholds"), (tmp_path, "thresholds")):
        root.mkdir(parents=True, exist_ok=True)
        (command,) = github.commands([results(line=7)], root)
        assert command.startswith(f"::error file={file}/privacy.yaml,line=7,")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "services"))  # the project is elsewhere
    assert github.commands([results(line=7)], tmp_path)[0].startswith("::error file=thresholds/privacy.yaml,")


def test_a_shipped_threshold_file_is_no_file_of_the_repository() -> None:
    found = results(id="trustllm/thresholds/safety.yaml::a.b[at_least]")
    assert github.commands([found], Path())[0].startswith("::error title=")


def test_no_more_annotations_than_github_shows() -> None:
    found = synthetic_run.results()
    found["gates"] = [found["gates"][2]] * 40
    lines = github.commands([found], Path())
    assert len(lines) == 10
    assert lines[-1] == "::error title=Trust gates::and 31 more gates did not pass"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:12]))
def test_text_of_a_model_is_no_command(text: str) -> None:
    lines = github.commands([results(id=f"{text}::{text}", reason=text)], Path())
    assert len(lines) == 1
    assert lines[0].startswith("::error ")
    assert lines[0].isprintable()
    assert lines[0].count("::") >= 2
    head = lines[0].split("::")[1]
    assert head.count(",") == 1
    harmless = github.harmless(text.split("\n")[0])
    assert not harmless.lstrip().startswith("::")
    assert "##[" not in harmless


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:12]))
def test_text_of_a_model_is_no_markdown(text: str) -> None:
    found = results(id=f"thresholds/x.yaml::{text}", reason=text)
    found["run"]["model"]["name"] = text
    plain = github.summary(results(id="thresholds/x.yaml::harmless", reason="harmless"), [("a", "harmless", 1)])
    page = github.summary(found, [("a", text, 1)])
    assert page.count("\n") == plain.count("\n")
    for line, other in zip(page.splitlines(), plain.splitlines(), strict=True):
        outside = re.sub(r"`[^`]*`", "", line)
        assert outside == re.sub(r"`[^`]*`", "", other)
        assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", other))
