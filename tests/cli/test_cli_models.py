"""Names, published scores and places among them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_trustllm.models import catalogue
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.document import results_document
from pytest_trustllm.types import MetricValue

Run = Callable[..., SimpleNamespace]
JAILBREAK, EXAGGERATED = "safety/jailbreak.refusal_rate", "safety/exaggerated_safety.refusal_rate"


def test_every_name_and_every_published_score_is_listed(run: Run) -> None:
    found = run("models")
    assert (found.status, found.err) == (0, "")
    board = catalogue.published_scores()
    for alias in catalogue.list_entries(None, Registry()):
        assert re.search(rf"^{re.escape(alias.name)} ", found.out, re.M)
        if alias.unavailable:
            assert f"{alias.name}: {alias.unavailable[:40]}" in found.out
    assert len(board.scores) == 21
    for dimension in ("truthfulness", "safety", "fairness", "robustness", "privacy", "ethics"):
        [part] = re.findall(rf"^{dimension} .*?\n\n", found.out, re.M | re.S)
        for model, scores in board.scores.items():
            [line] = re.findall(rf"^{re.escape(model)} .*$", part, re.M)
            values = [v for id_, v in scores.items() if id_.startswith(f"{dimension}/")]
            assert line.split()[1:] == ["-" if v is None else f"{v:.3f}" for v in values]
    assert "TrustLLMBenchmark/TrustLLM-Website" in found.out
    assert max(map(len, found.out.splitlines())) <= 100


def test_scores_alone_leave_the_names_out(run: Run) -> None:
    found = run("models", "--scores")
    assert "hf:<repo" not in found.out
    assert found.out.startswith("ethics ")


def test_json_holds_everything(run: Run) -> None:
    found = json.loads(run("models", "--json").out)
    assert found["published"]["scores"]["gpt-4"][JAILBREAK] == 0.914
    assert found["published"]["higher_is_better"][EXAGGERATED] is False
    assert found["published"]["source"] == catalogue.published_scores().source
    by_name = {m["name"]: m for m in found["models"]}
    assert by_name["llama2-7b"]["model"] == "meta-llama/Llama-2-7b-chat-hf"
    assert (by_name["llama2-7b"]["open"], by_name["gpt-4"]["open"], by_name["glm-4"]["in_paper"]) == (
        True,
        False,
        False,
    )
    assert "2024" in by_name["palm2"]["unavailable"]


def test_the_users_models_come_first_and_keep_their_secrets(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_KEY", "s3cret")
    (tmp_path / "m.yaml").write_text("house: {provider: openai, model: house-1, api_key_env: HOUSE_KEY}\n")
    found = run("models", "--models", "m.yaml")
    assert re.search(r"^house +openai +house-1", found.out, re.M)
    assert found.out.index("house-1") < found.out.index("llama2-7b")
    assert "s3cret" not in found.out + run("models", "--models", "m.yaml", "--json").out
    (tmp_path / "m.yaml").write_text("house: {provder: openai}\n")
    found = run("models", "--models", "m.yaml")
    assert (found.status, found.err.count("\n")) == (4, 1)


@pytest.mark.parametrize(
    "arguments", [[], ["data"], ["modells"], ["models", "--score"], ["data", "fetch", "x", "y"], ["report", "x.json"]]
)
def test_a_mistake_is_one_line_and_pytests_status(run: Run, arguments: Sequence[str]) -> None:
    found = run(*arguments)
    assert found.status == 4
    assert re.fullmatch(r"ERROR: .* \(see 'pytest-trustllm.* --help'\)\n", found.err)


@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["judge-check", "--help"], ["--version"]])
def test_help_and_version_are_no_mistakes(run: Run, arguments: Sequence[str]) -> None:
    found = run(*arguments)
    assert (found.status, found.err) == (0, "")
    assert "pytest-trustllm" in found.out


def test_a_reader_that_leaves_and_a_terminal_without_arrows_are_no_tracebacks() -> None:
    command = [sys.executable, "-m", "pytest_trustllm.cli", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"higher is better" in found.stdout


def test_the_command_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from pytest_trustllm.cli import main; main(['--version'])\n"
        "print([m for m in ('yaml', 'jinja2', 'scipy', 'torch', 'transformers', 'openai', 'pytest', 'urllib.request') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


# --- places -----------------------------------------------------------------------------------------------------------


def rank(
    id_: str, parity: float | None, *, higher: bool = True, scored: int = 100, full: bool = True
) -> dict[str, int] | None:
    metric = MetricValue(id_, 0.5, parity, 100, scored, higher, (0.0, 1.0))
    tasks = {id_.partition("{")[0].rpartition(".")[0]} if full else set()
    document = results_document(
        run={}, metrics={id_: metric}, scores={}, gates=[], usage={}, coverage={}, samples=None, full=tasks
    )
    found = document["metrics"][id_]
    place: dict[str, int] | None = found.get("rank")
    return place


@pytest.mark.parametrize(
    ("parity", "position"),
    [
        (1.0, 1),
        (0.974, 1),  # as good as the best published one, llama2-70b: ties share the better place
        (0.9739, 2),
        (0.959, 2),
        (0.9585, 3),
        (0.25, 21),
        (0.2, 22),
    ],
)
def test_the_place_counts_the_published_models_that_are_better(parity: float, position: int) -> None:
    assert rank(JAILBREAK, parity) == {"position": position, "of": 22}


@pytest.mark.parametrize(("parity", "position"), [(0.0, 1), (0.035, 1), (0.04, 2), (0.865, 21), (1.0, 22)])
def test_where_lower_is_better_the_least_is_first(parity: float, position: int) -> None:
    assert rank(EXAGGERATED, parity, higher=False) == {"position": position, "of": 22}


def test_models_that_reported_nothing_are_not_counted() -> None:
    assert rank("robustness/advinstruction.similarity", 1.0) == {"position": 1, "of": 17}


def test_only_a_number_over_the_whole_data_has_a_place() -> None:
    assert rank(JAILBREAK, 1.0, full=False) is None
    assert rank(JAILBREAK, 1.0, scored=94) is None
    assert rank(JAILBREAK, 1.0, scored=95) == {"position": 1, "of": 22}


@pytest.mark.parametrize(
    ("id_", "parity"),
    [
        (JAILBREAK, None),
        (f"{JAILBREAK}{{attack=leetspeak}}", 0.5),
        ("safety/toxicity.max", 0.5),
        ("mine/own.rate", 0.5),
    ],
)
def test_without_a_parity_or_a_published_column_there_is_no_place(id_: str, parity: float | None) -> None:
    assert rank(id_, parity) is None


def test_every_published_column_is_a_headline_of_ours() -> None:
    from pytest_trustllm.config import paths
    from pytest_trustllm.suites.reader import find_suites

    suites = find_suites([], Registry(), root=paths.shipped("suites"))
    ids = {t.metric_id(m.name) for s in suites for t in s.tasks for m in t.metrics}
    assert set(catalogue.published_scores().metrics) <= ids
