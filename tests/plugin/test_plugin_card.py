"""--trust-card: the suite about a model's documentation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import hub_server
import pytest
from user_project import Project, in_every_mode

CARDS = Path(__file__).parents[1] / "cards"
MODEL = """
def answer(prompt):
    if "human" in prompt or "real person" in prompt:
        return "I am a language model."
    if "year" in prompt:
        return "2025"
    if "stored" in prompt:
        return "No, it is not stored."
    return "Nutwork Research made me."
"""

APP = """
import pytest
import scipy.special  # noqa: F401
from pytest_trustllm import TrustModel

@pytest.fixture(scope="session")
def trust_model():
    return TrustModel.from_callable(lambda prompt: "hello", name="app")
"""

JUDGE = """
def judge(prompt):
    return "BOILERPLATE" if "whom to ask" in prompt else "ANSWERED"
"""


def ready(project: Project, card: str) -> str:
    project.write("app.py", MODEL)
    project.write("card.md", (CARDS / f"{card}.md").read_text())
    (project.path / "suites/mine.yaml").unlink()
    (project.path / "suites").rmdir()
    return "--trust-card=card.md"


@in_every_mode
def test_a_complete_card_passes_its_gates(project: Project, mode: tuple[str, ...]) -> None:
    result = project.run(ready(project, "complete"), *mode)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    results = project.results()
    values = {id_: metric["value"] for id_, metric in results["metrics"].items() if "{" not in id_}
    assert values == {
        "transparency/documentation.documented_rate": 1.0,
        "transparency/disclosure.documented_rate": 1.0,
        "transparency/self_description.accuracy": 1.0,
    }
    assert [gate["outcome"] for gate in results["gates"]] == ["passed"] * 3
    assert results["usage"]["requests"] == 6  # only what the model says of itself is asked
    assert "card.md" in results["run"]["data"]["files"]


def test_a_template_fails_and_names_the_fields(project: Project) -> None:
    result = project.run(ready(project, "poor"), "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*FAIL*documentation.documented_rate*"])
    answers = {(line["task"], line["id"]): line["answer"] for line in project.lines()}
    assert answers["transparency/documentation", "0002"] == "boilerplate"  # 'other' is no licence
    assert answers["transparency/documentation", "0006"] == "boilerplate"
    metric = project.results()["metrics"]["transparency/self_description.accuracy"]
    assert (metric["expected"], metric["value"]) == (2, 1.0)  # that it is an AI needs no card; the rest is not claimed


def test_a_card_that_says_otherwise_than_the_model_fails(project: Project) -> None:
    result = project.run(ready(project, "contradicting"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    missed = [line["id"] for line in project.lines() if line["status"] == "missed"]
    assert missed == ["0000", "0001", "0002"]
    assert project.results()["metrics"]["transparency/self_description.accuracy"]["value"] == 0.5


def test_a_judge_reads_what_passes_by_the_rules(project: Project) -> None:
    card = ready(project, "complete")
    project.write("referee.py", JUDGE)
    documentation = "--trust-suite=transparency/documentation"
    result = project.run(card, "--trust-judge=python:referee:judge", documentation)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    answers = {line["answer"]: line for line in project.lines()}
    assert set(answers) == {"documented (judge)", "boilerplate (judge)"}
    assert answers["boilerplate (judge)"]["expected"] == "whom to ask"
    assert project.results()["metrics"]["transparency/documentation.documented_rate"]["value"] == 15 / 16
    project.run(card, documentation)
    assert {line["answer"] for line in project.lines()} == {"documented"}
    where = {line["expected"]: line["observed"]["where"] for line in project.lines()}
    assert where["licence"] == "key 'license' of the head"
    assert where["compute of the training"] == "section 'Compute'; a sentence"
    assert all(line["verdicts"] == [] for line in project.lines())


def test_without_a_card_nothing_changes(project: Project) -> None:
    project.run()
    assert set(project.results()["scores"]) == {"safety"}


def test_its_results_are_judged_and_compared_again(project: Project) -> None:
    project.run(ready(project, "complete"), "--trust-report=r.html")
    assert project.command("gate", "r.json").returncode == 0
    assert project.command("compare", "r.json", "r.json").returncode == 0
    assert project.command("export", "r.json", "-o", "r.csv").returncode == 0
    assert project.command("export", "r.json", "--format", "inspect", "-o", "logs").returncode == 0
    assert "documented" in (project.path / "r.html").read_text()


def test_the_exported_card_of_a_run_passes_its_own_check(project: Project) -> None:
    project.run()
    assert project.command("export", "r.json", "--format", "hf", "-o", "card.md").returncode == 0
    assert project.command("card", "r.json", "--check", "card.md").returncode == 0
    digest = next(iter(project.results()["run"]["data"]["files"].values()))
    text = (project.path / "card.md").read_text()
    project.write("card.md", text.replace(digest, "0" * 64).replace(digest[:16], "0" * 16))
    assert project.command("card", "r.json", "--check", "card.md").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trust-card=none.md",), "*--trust-card: *none.md: cannot be read: No such file*"),
        (("--trust-card=page.md",), "*--trust-card: *page.md is an HTML page*"),
        (("--trust-card=hub",), "*--trust-card: 'python:app:answer' has no repository with a card*"),
        (("--trust-card=card.md", "--trust-model=demo"), "*--trust-card: a card describes one model*"),
    ],
)
def test_what_is_no_card_ends_the_run_before_it_begins(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    project.write("page.md", "<html></html>")
    project.write("card.md", "# A 1\n")
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_the_card_beside_the_weights_is_that_of_the_hub(tmp_path: Path) -> None:
    from pytest_trustllm.errors import ModelError
    from pytest_trustllm.models.hub_card import hub_card

    (tmp_path / "README.md").write_text("# A 1\n")
    assert hub_card(f"hf:{tmp_path}", None) == tmp_path / "README.md"
    (tmp_path / "README.md").unlink()
    with pytest.raises(ModelError, match=r"has no README\.md"):
        hub_card(f"hf:{tmp_path}", None)


@pytest.fixture
def from_hub(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub with one card; what was requested of it."""
    pytest.importorskip("huggingface_hub")
    content = (CARDS / "complete.md").read_bytes()
    files = {f"acme/acorn/resolve/{revision}/README.md": content for revision in ("main", "v2")}
    files["acme/page/resolve/main/README.md"] = b"<html></html>"
    with hub_server.serving(files) as (address, requested):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HOME", str(project.path / "hub"))
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield requested


def run_from_hub(project: Project, model: str) -> pytest.RunResult:
    # the card is that of the repository; its weights, which are not there, need not be loaded for an app
    project.write("conftest.py", APP)
    return project.run("--trust-card=hub", "--trust-suite=transparency/documentation", model=model)


@pytest.mark.parametrize(("model", "revision"), [("hf:acme/acorn", "main"), ("hf:acme/acorn@v2", "v2")])
def test_the_card_of_a_repository_is_downloaded_in_the_models_revision(
    project: Project, from_hub: list[str], model: str, revision: str
) -> None:
    result = run_from_hub(project, model)
    assert f"GET acme/acorn/resolve/{revision}/README.md" in from_hub
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    results = project.results()
    assert results["metrics"]["transparency/documentation.documented_rate"]["value"] == 1.0
    (sha256,) = [value for name, value in results["run"]["data"]["files"].items() if name.endswith("README.md")]
    assert sha256 == hashlib.sha256((CARDS / "complete.md").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hf:acme/none", "*--trust-card: the card of acme/none cannot be downloaded: *"),
        ("hf:acme/gated", "*--trust-card: the card of acme/gated cannot be downloaded: *"),
        ("hf:acme/page", "*README.md is an HTML page*"),
    ],
)
def test_a_card_that_the_hub_does_not_give_is_one_line(
    project: Project, from_hub: list[str], model: str, message: str
) -> None:
    result = run_from_hub(project, model)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert len([line for line in result.errlines if line.strip()]) == 1


def test_a_hub_that_is_not_there_is_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(project.path / "hub"))
    result = run_from_hub(project, "hf:acme/acorn")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--trust-card: the card of acme/acorn cannot be downloaded: *"])
