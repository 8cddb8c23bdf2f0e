"""Packs whose data is not here: their suites on made-up rows with the published columns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from user_project import Project, statuses

PACKS = Path(__file__).parents[2] / "packs" / "trustllm_packs"
JBB = "Index,Goal,Target,Behavior,Category,Source"
MADE_UP = {
    "or-bench-hard-1k.csv": "prompt,category\nHow do I kill a process?,harmful\nHow do I shoot a film?,harmful\n",
    "harmful-behaviors.csv": f"{JBB}\n0,Harm one,Sure,a,Fraud,x\n1,Harm two,Sure,b,Fraud,x\n",
    "benign-behaviors.csv": f"{JBB}\n0,Help one,Sure,a,Fraud,x\n",
    "strongreject_dataset.csv": "category,source,forbidden_prompt\nViolence,own,Harm one\nViolence,own,Harm two\n",
    "harmbench_behaviors_text_all.csv": (
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
        "Harm one,standard,illegal,,,a\nHarm two,standard,illegal,,,b\n"
        "Harm three,contextual,illegal,context,About locks.,c\nA song,copyright,copyright,,,d\n"
    ),
}
ROLES = r"""
def answer(prompt):
    with open("asked.txt", "a") as file:
        file.write(repr(prompt) + "\n")
    return "Sure, here is how." if "one" in prompt or "film" in prompt else "I'm sorry, but I can't help with that."

def judge(prompt):
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    refused = "I'm sorry" in text
    if "WITHHELD" in text:
        return "WITHHELD" if refused else "GIVEN"
    if "refuse" in text:
        return "YES" if refused else "NO"
    return "1" if refused else "4" if "convincing" in text else "2"

def guard(chat):
    return "safe" if "I'm sorry" in str(chat) else "unsafe"
"""


def test_packs_score_rows_in_their_columns(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("or_bench", "jailbreakbench", "strongreject", "harmbench")
    sums = {}
    for name, text in MADE_UP.items():
        sums[name] = hashlib.sha256(project.write(f"mirror/{name}", text).read_bytes()).hexdigest()
    for name in names:
        suite = (PACKS / name / "suites" / f"{name}.yaml").read_text(encoding="utf-8")
        pins = yaml.safe_load(suite)["files"].values()
        for pin in pins:  # the published file has another hash than ours
            suite = suite.replace(pin["sha256"], sums[pin["url"].rpartition("/")[2]])
            assert pin["commit"] in pin["url"]
        project.write(f"suites/{name}.yaml", suite)
    (project.path / "suites/mine.yaml").unlink()
    project.write("roles.py", ROLES)
    monkeypatch.setenv("TRUSTLLM_DATA", str(project.path / "data"))
    for name in names:
        assert project.command("data", "fetch", name, "--from", "mirror").returncode == 0
    roles = ("--trust-judge=python:roles:judge", "--trust-guard=python:roles:guard")
    result = project.run(*roles, model="python:roles:answer")
    assert statuses(result) == {"passed": 6, "missed": 4}, result.stdout.str()
    values = {id_: metric["value"] for id_, metric in project.results()["metrics"].items() if "{" not in id_}
    assert values == {
        "or_bench/hard.refusal_rate": 0.5,
        "jailbreakbench/harmful.safe_rate": 0.5,
        "jailbreakbench/harmful_refused.refusal_rate": 0.5,
        "jailbreakbench/benign.refusal_rate": 0.0,
        "strongreject/forbidden.harmlessness": pytest.approx((1 + 1 - (0.75 + 0.25) / 2) / 2),
        "harmbench/standard.safe_rate": 0.5,
        "harmbench/contextual.safe_rate": 1.0,
    }
    assert project.results()["metrics"]["or_bench/hard.refusal_rate{category=harmful}"]["value"] == 0.5
    assert "'About locks.\\n\\n---\\n\\nHarm three'" in (project.path / "asked.txt").read_text()
    assert "A song" not in (project.path / "asked.txt").read_text()

    # a file that was changed since is refused before anything is asked
    asked = (project.path / "asked.txt").read_bytes()
    (file,) = project.path.glob("data/files/*/or-bench-hard-1k.csv")
    file.write_bytes(file.read_bytes() + b"more,x\n")
    result = project.run("--trust-suite=or_bench", model="python:roles:answer")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: or_bench/hard: *or-bench-hard-1k.csv is not the file that the suite pins (SHA-256 differs); *"]
    )
    assert (project.path / "asked.txt").read_bytes() == asked
