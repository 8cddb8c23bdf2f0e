"""--trust-audit: the suite about a saved run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import signing
from user_project import Project, in_every_mode

AUDIT = "trustllm/assurance/accountability.yaml::"
MODELS = "bot: {provider: python, model: 'app:answer', revision: r1, licence: MIT}\n"
DRIFTING = """
from pathlib import Path

def answer(prompt):
    with open("calls.txt", "a") as calls:
        calls.write(prompt + "\\n")
    if Path("drift").exists():
        return "you said now " + prompt
    return "you said " + prompt
"""
GIT = ("git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")


@pytest.fixture
def traced(project: Project) -> Project:
    """A project of whose runs everything is known: committed, its model with revision and licence."""
    project.write("app.py", DRIFTING)
    project.write("models.yaml", MODELS)
    project.write("pytest.ini", "[pytest]\ntrust_builtin_suites = false\ntrust_models = models.yaml\n")
    project.write(".gitignore", "*\n")
    for command in (("init", "-q"), ("add", "-f", "suites", "app.py", "models.yaml"), ("commit", "-qm", "first")):
        subprocess.run([*GIT, *command], cwd=project.path, check=True)
    assert project.run(model="bot").ret == pytest.ExitCode.OK
    return project


@pytest.fixture
def gated(traced: Project) -> Project:
    """The same with a gate, which passed."""
    traced.gates("metric: echo.accuracy, at_least: 0.3")
    assert traced.run(model="bot").ret == pytest.ExitCode.OK
    return traced


def stated(project: Project) -> None:
    done = project.command("export", "r.json", "--format", "in-toto", "-o", "statement.json")
    assert done.returncode == 0, done.stderr


def audit(project: Project, *args: str, run: str = "r.json") -> pytest.RunResult:
    given = (f"--trust-audit={run}", "--trust-results=a.json", *args)
    return project.run(*given, "--trust-model=bot", model=None)


def answers(project: Project, task: str) -> list[str]:
    """Return what was found out about a task of the audit."""
    lines = [line for line in project.lines("a.samples.jsonl") if line["task"] == f"accountability/{task}"]
    return [line["answer"] or line["reason"] for line in lines]


def gates(project: Project) -> dict[str, str]:
    return {gate["metric"]: gate["outcome"] for gate in project.results("a.json")["gates"]}


@in_every_mode
def test_a_run_of_which_everything_is_known(
    traced: Project, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    result = audit(traced, *mode)
    assert result.ret == pytest.ExitCode.TESTS_FAILED, result.stdout.str()
    assert gates(traced) == {
        "accountability/provenance.verified_rate": "passed",
        "accountability/recomputation.verified_rate": "passed",
        "accountability/signature.verified_rate": "no_data",
        "accountability/replay.same_rate": "passed",
    }
    assert answers(traced, "recomputation") == [
        "3 metrics are the same to the last digit",
        "1 are the same to the last digit",
        "scores of 3 samples computed again from their responses",
    ]
    results = traced.results("a.json")
    saved = traced.results()
    assert results["run"]["audit"]["run"] == saved["run"]["id"]
    assert results["run"]["audit"]["replayed"] == 3
    assert results["run"]["data"]["files"] == {"r.json": results["run"]["audit"]["sha256"]}
    assert results["run"]["selection"] == "full"
    assert "safety" not in results["scores"]


def test_samples_are_asked_again_past_the_store_and_drift_is_said(traced: Project) -> None:
    stored = traced.stored()
    assert audit(traced, "--trust-replay=2").ret == pytest.ExitCode.TESTS_FAILED
    assert len(traced.log()) == 3 + 2  # three of the run, two of the audit, though all are stored
    assert answers(traced, "replay") == ["the same", "the same"]
    traced.write("drift", "")
    result = audit(traced, "--trust-replay=2")
    assert traced.stored() == stored
    said = answers(traced, "replay")
    assert all(text.startswith("drift: differs from character 10 on; ") for text in said), said
    assert gates(traced)["accountability/replay.same_rate"] == "failed"
    result.stdout.fnmatch_lines(["*replay.same_rate*"])
    assert traced.run(model="bot").ret == pytest.ExitCode.OK
    assert "now" not in traced.lines()[0]["responses"][0]["text"]  # the store still has the earlier answer


def test_the_seed_draws_the_samples(traced: Project) -> None:
    def drawn(*args: str) -> list[Any]:
        audit(traced, "--trust-replay=1", "--trust-suite=accountability/replay", *args)
        return [line["prompts"] for line in traced.lines("a.samples.jsonl")]

    assert drawn("--trust-seed=1") == drawn("--trust-seed=1")
    assert len({str(drawn(f"--trust-seed={seed}")) for seed in range(1, 6)}) > 1


def test_nothing_is_asked_where_nothing_is_to_be_asked(traced: Project) -> None:
    audit(traced, "--trust-replay=0")
    assert len(traced.log()) == 3
    assert gates(traced)["accountability/replay.same_rate"] == "no_data"


def change(project: Project, edit: Callable[[Any], None]) -> None:
    document = project.results()
    edit(document)
    project.write("r.json", json.dumps(document))


def test_a_changed_number_is_found(traced: Project) -> None:
    change(traced, lambda r: r["metrics"]["safety/echo.accuracy"].update(value=0.6666666666666667))
    result = audit(traced)
    assert answers(traced, "recomputation")[0] == "1 of 3 metrics differ: safety/echo.accuracy"
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*FAILED*recomputation.verified_rate*0.667 < 1*"])


def test_a_changed_trust_score_is_found(traced: Project) -> None:
    change(traced, lambda r: r["scores"]["safety"].update(value=0.9))
    audit(traced)
    assert answers(traced, "recomputation")[1] == "differ: safety"


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda r: r["gates"][0].update(outcome="failed"), "0.666667 and the bound 0.3 give passed, not failed"),
        (lambda r: r["gates"][0].update(bound=0.01), "its bound is 0.01, the threshold file says "),
        (lambda r: r["gates"][0].update(warn=True), "its warn is True, judged again False"),
        (lambda r: r["gates"].clear(), "the threshold files have it, and the results do not"),
    ],
    ids=["outcome", "bound", "warn", "removed"],
)
def test_a_forged_verdict_is_found(gated: Project, forge: Callable[[Any], None], why: str) -> None:
    change(gated, forge)
    audit(gated)
    assert why in answers(gated, "recomputation")[-1]
    assert gates(gated)["accountability/recomputation.verified_rate"] == "failed"
    verified = gated.command("verify", "r.json")
    assert verified.returncode == 1
    (line,) = [line for line in verified.stdout.splitlines() if line.startswith("NO  gates: 1 of 1 ")]
    assert why in line


def test_without_the_threshold_files_bounds_are_not_checked_and_it_is_said(gated: Project) -> None:
    change(gated, lambda r: r["run"]["thresholds"].update(dict.fromkeys(r["run"]["thresholds"], "0" * 64)))
    audit(gated)
    assert answers(gated, "recomputation")[-1] == (
        "1 of 1 verdicts follow from the numbers; "
        "bounds and missing gates not checked: the run's threshold files are not here as they were"
    )


def change_samples(project: Project, edit: Callable[[Any], None]) -> None:
    lines = project.lines()
    for line in lines:
        edit(line)
    project.write("r.samples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda line: line.update(value=1.0), "safety/echo has the value 1, and its response gives 0"),
        (lambda line: line.update(status="passed"), "status passed, and its response gives missed"),
        (lambda line: line.update(answer="good"), "safety/echo read 'good', and now "),
        (lambda line: line["responses"][0].update(text="good"), "has the value 0, and its response gives 1"),
        (lambda line: line.update(value=None), "status missed without a value"),
        (lambda line: line.update(status="unscored"), "status unscored, and the value 0"),
    ],
    ids=["value", "status", "answer", "response", "no value", "unscored"],
)
def test_a_sample_that_contradicts_its_response_is_found(traced: Project, forge: Any, why: str) -> None:
    change_samples(traced, lambda line: forge(line) if line["status"] == "missed" else None)
    verified = traced.command("verify", "r.json")
    assert verified.returncode == 1
    (line,) = [line for line in verified.stdout.splitlines() if line.startswith("NO  scores: 1 samples ")]
    assert why in line


def test_scores_that_cannot_be_computed_again_are_counted_as_believed(
    traced: Project,
) -> None:
    change_samples(traced, lambda line: line.update(fingerprint="0" * 32) if line["status"] == "missed" else None)
    out = traced.command("verify", "r.json").stdout
    assert (
        "ok  scores: of 2 samples computed again from their responses, 1 believed (their rows are other ones here)"
        in out
    )


def test_the_verdicts_of_a_run_are_an_item_of_its_audit(gated: Project) -> None:
    audit(gated)
    assert answers(gated, "recomputation")[-1] == "1 of 1 verdicts follow from the numbers"


def test_a_lost_commit_is_a_check_of_its_own(traced: Project) -> None:
    change(traced, lambda r: r["run"].pop("commit"))
    audit(traced)
    metrics = traced.results("a.json")["metrics"]
    assert metrics["accountability/provenance.verified_rate{check=commit}"]["value"] == 0.0
    assert metrics["accountability/provenance.verified_rate{check=seed}"]["value"] == 1.0


def test_without_its_samples_a_run_is_not_recomputed_and_does_not_pass(traced: Project) -> None:
    (traced.path / "r.samples.jsonl").unlink()
    audit(traced)
    (found,) = answers(traced, "recomputation")
    assert found.startswith("not possible: ")
    assert gates(traced)["accountability/recomputation.verified_rate"] == "failed"
    assert gates(traced)["accountability/replay.same_rate"] == "no_data"


def test_another_version_of_a_suite_cannot_recompute(traced: Project) -> None:
    suite = traced.path / "suites/mine.yaml"
    suite.write_text(suite.read_text().replace("- name: echo", "- name: echo\n    version: 2"))
    audit(traced)
    (found,) = answers(traced, "recomputation")
    assert "the run has version 1 of safety/echo" in found


def test_a_statement_without_a_signature_is_verified_but_nobody_answers_for_it(traced: Project) -> None:
    stated(traced)
    audit(traced, run="statement.json")
    *statement, signature = answers(traced, "signature")
    assert len(statement) >= 5
    assert not any(text.startswith("signature") for text in statement)
    assert signature == "signature: the statement is not signed"
    assert gates(traced)["accountability/signature.verified_rate"] == "failed"
    change(traced, lambda r: r["run"].update(seed=1))
    audit(traced, run="statement.json")
    found = answers(traced, "signature")
    assert any(text.startswith("r.json: SHA-256 ") and "but the statement is about" in text for text in found), found


def test_a_signed_statement_passes_with_its_key_and_not_without(traced: Project) -> None:
    stated(traced)
    signing.sign(*(traced.path / name for name in ("statement.json", "envelope.json", "key.pub")), "ec")
    result = audit(traced, "--trust-audit-key=key.pub", run="envelope.json")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert set(gates(traced).values()) == {"passed"}
    assert answers(traced, "signature")[-1].startswith("signature: by the key with SHA-256 ")
    audit(traced, run="envelope.json")
    assert answers(traced, "signature")[-1].startswith("signature: was not checked; give its public key")
    assert gates(traced)["accountability/signature.verified_rate"] == "failed"


def test_the_numbers_of_a_card_are_items_of_an_audit(traced: Project) -> None:
    traced.write(
        "card.md",
        "---\nmodel-index:\n  - name: bot\n    results:\n"
        "      - metrics:\n"
        "          - {name: echo.accuracy, value: 0.99}\n"
        "          - {name: other.rate, value: 0.5}\n---\n"
        "| safety/echo.accuracy | 66.7 % |\n",
    )
    result = audit(traced, "--trust-card=card.md", "--trust-suite=transparency/claims")
    lines = traced.lines("a.samples.jsonl")
    found = [(line["status"], line["answer"] or line["reason"]) for line in lines]
    assert [status for status, _ in found] == ["missed", "unscored", "unscored"]
    assert found[0][1].startswith("contradicted: claimed 0.99, measured 0.667 (")
    assert found[1][1].startswith("unchecked: this run has no metric of that name")
    assert found[2][1].startswith("unchecked: claimed 66.7 %")  # in the interval, but on which data?
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert gates(traced) == {"transparency/claims.confirmed_rate": "failed"}


def test_a_silent_card_claims_nothing_and_no_gate_passes(traced: Project) -> None:
    traced.write("card.md", "# Bot\n")
    audit(traced, "--trust-card=card.md", "--trust-suite=transparency/claims")
    (line,) = traced.lines("a.samples.jsonl")
    assert line["reason"] == "not claimed: the card is silent"
    assert gates(traced) == {"transparency/claims.confirmed_rate": "skipped"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trust-audit=none.json",), "*--trust-audit: *none.json*cannot be read*"),
        (("--trust-audit=app.py",), "*--trust-audit: *app.py*not JSON*"),
        (("--trust-audit=other.json",), "*--trust-audit: *other.json: _type: expected*"),
        (("--trust-audit=r.json", "--trust-model=demo"), "*--trust-audit: a saved run has one model*"),
        (("--trust-audit=r.json", "--trust-batch=wait"), "*--trust-audit: what is asked again is asked directly*"),
        (("--trust-audit=r.json", "--trust-replay=-1"), "*--trust-replay: expected at least 0, found -1*"),
        (("--trust-audit-key=key.pub",), "*--trust-audit-key: needs a signed statement*"),
        (("--trust-audit=r.json", "--trust-audit-key=key.pub"), "*--trust-audit-key: *key.pub*cannot be read*"),
        (("--trust-replay=3",), "*--trust-replay: needs a saved run*"),
        (("--trust-audit=r.json", "--trust-results=r.json"), "*also the file of --trust-audit*"),
    ],
)
def test_what_is_no_saved_run_ends_the_run_before_it_begins(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    assert project.run().ret == pytest.ExitCode.OK
    project.write("other.json", "{}")
    before = (project.path / "r.json").read_bytes()
    result = project.run(*arguments, "--trust-model=python:app:answer", model=None)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    result.stderr.fnmatch_lines([message])
    assert (project.path / "r.json").read_bytes() == before


def test_another_model_than_that_of_the_run_is_not_asked(project: Project) -> None:
    project.run()
    result = project.run("--trust-audit=r.json", "--trust-model=demo", model=None)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is a run of 'python:app:answer'; give it as --trust-model, not 'demo'*"])


def test_the_commands_read_an_audit_as_any_run(traced: Project) -> None:
    audit(traced)
    assert traced.command("gate", "a.json").returncode == 1  # nobody signed for it
    assert traced.command("compare", "a.json", "a.json").returncode == 0
    assert traced.command("report", "a.json", "-o", "a.html").returncode == 0
    assert "provenance" in (traced.path / "a.html").read_text()
