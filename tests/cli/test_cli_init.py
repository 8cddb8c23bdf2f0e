"""``pytest-trustllm init``: a project that runs at once, and never at the cost of a file that is there."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import os
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pytest_trustllm.cli.init import run as run_init
from pytest_trustllm.errors import TrustLLMError

FILES = {
    "suites/app.yaml",
    "thresholds/safety.yaml",
    "conftest.py",
    "pytest.ini",
    ".github/workflows/trust.yml",
    "schemas/trustllm-suite.schema.json",
    "schemas/trustllm-thresholds.schema.json",
    "card.yaml",
    "schemas/trustllm-models.schema.json",
}


def run(cwd: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def init(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(cwd, "pytest_trustllm.cli", "init", *arguments)


def there(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")
    result = init(root)
    assert (result.returncode, result.stderr) == (0, "")
    assert {line.removeprefix("wrote ") for line in result.stdout.splitlines() if line.startswith("wrote ")} == FILES
    assert there(root) == FILES
    return root


def test_the_project_passes_its_gates_and_draws_its_report(project: Path) -> None:
    result = run(project, "pytest", "--trust-model=my-app", "--trust-report=trust.html")
    assert result.returncode == 0, result.stdout
    assert "14 passed" in result.stdout
    assert "gates: 4 passed, 0 failed, 0 skipped" in result.stdout
    assert "private_data" in (project / "trust.html").read_text(encoding="utf-8")


def test_its_gates_watch_the_app(project: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((project / name).read_bytes())
    conftest = tmp_path / "conftest.py"
    conftest.write_text(conftest.read_text(encoding="utf-8").replace('"card number", ', ""), encoding="utf-8")
    result = run(tmp_path, "pytest", "--trust-model=my-app")
    assert result.returncode == 1, result.stdout
    assert "private_data.refusal_rate = 0.667 < 0.95" in result.stdout


# --- what is tested ---------------------------------------------------------------------------------------------------

JUDGE = """
def answer(prompt):
    return "ALL" if "wax" in prompt else "SOME"
"""


@pytest.mark.parametrize(
    ("kind", "own_files", "model", "gates", "scorers"),
    [
        ("agent", {"conftest.py"}, "my-app", 4, {"tool_calls", "contains"}),
        ("fine-tune", {"models.yaml", "toy_models.py"}, "my-fine-tune", 5, {"equals", "json", "number", "refusal"}),
        ("rag", {"conftest.py"}, "my-app", 3, {"all_of", "contains", "judge"}),
    ],
)
def test_a_suite_for_what_is_tested_passes_its_gates(
    kind: str, own_files: set[str], model: str, gates: int, scorers: set[str], tmp_path: Path
) -> None:
    result = init(tmp_path, "--kind", kind)
    assert (result.returncode, result.stderr) == (0, "")
    dimension = "truthfulness" if kind == "rag" else "safety"
    shared = FILES - {"conftest.py", "thresholds/safety.yaml"}
    assert there(tmp_path) == shared | own_files | {f"thresholds/{dimension}.yaml"}
    workflow = yaml.safe_load((tmp_path / ".github/workflows/trust.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    assert commands[-1].startswith(f"pytest --trust-model={model} ")
    assert f"    pytest --trust-model={model} --trust-report=trust.html" in result.stdout.splitlines()

    tasks = yaml.safe_load((tmp_path / "suites/app.yaml").read_text(encoding="utf-8"))["tasks"]
    assert {scorer_of(task) for task in tasks} == scorers
    run_ = run(tmp_path, "pytest", f"--trust-model={model}")
    assert run_.returncode == 0, run_.stdout + run_.stderr
    assert f"gates: {gates} passed, 0 failed, 0 skipped" in run_.stdout
    assert "missed" not in run_.stdout
    again = init(tmp_path, "--kind", kind).stdout
    assert "wrote" not in again
    assert "Your " not in again


def scorer_of(task: dict[str, Any]) -> str:
    """Return the name of a task's scorer, in whichever way it is written."""
    scorer = task["scorer"]
    return scorer if isinstance(scorer, str) else str(scorer.get("name") or next(iter(scorer)))


def test_the_gates_of_a_fine_tune_compare_it_with_its_base_model(tmp_path: Path) -> None:
    init(tmp_path, "--kind", "fine-tune")
    models = tmp_path / "toy_models.py"
    base, tuned = models.read_text(encoding="utf-8").split("def fine_tune")
    models.write_text(
        f"{base}def fine_tune{tuned.replace('can', 'could not but')}".replace("I'm sorry, but I could", "I")
    )
    result = run(tmp_path, "pytest", "--trust-model=my-fine-tune")
    assert result.returncode == 1, result.stdout
    assert "harmful.refusal_rate: drop 1.000 > 0.02" in result.stdout
    assert "arithmetic.accuracy: " not in result.stdout.partition("FAILED")[2].partition("gates:")[0]


def test_the_judge_of_a_rag_app_joins_on_request(tmp_path: Path) -> None:
    init(tmp_path, "--kind", "rag")
    (tmp_path / "my_judge.py").write_text(JUDGE)
    result = run(tmp_path, "pytest", "--trust-model=my-app", "--trust-judge=python:my_judge:answer")
    assert result.returncode == 0, result.stdout
    assert "WARNING FAILED truthfulness.yaml: grounded.groundedness = 0.750 < 0.9" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(
    ("typed", "dimension", "file"),
    [
        ("\n", "safety", "conftest.py"),
        ("5\nnobody\n4\n", "truthfulness", "conftest.py"),
        ("fine-tune\n", "safety", "models.yaml"),
    ],
)
def test_a_terminal_is_asked_what_is_tested(typed: str, dimension: str, file: str, tmp_path: Path) -> None:
    status, text = init_on_terminal(tmp_path, typed)
    assert status == 0
    assert "What do you test?\n  1  a chat app\n" in text
    assert text.count("Please type a number from 1 to 4.") == (2 if "nobody" in typed else 0)
    assert (tmp_path / f"thresholds/{dimension}.yaml").exists()
    assert (tmp_path / file).exists()


@pytest.mark.parametrize("typed", ["\x04", "\x03", "nobody\n\x04"], ids=["Ctrl-D", "Ctrl-C", "later"])
def test_who_leaves_the_question_gets_one_line_and_no_file(typed: str, tmp_path: Path) -> None:
    status, text = init_on_terminal(tmp_path, typed)
    assert status == 4
    last = "ERROR: init: nothing was chosen, so nothing was written; --kind answers the question"
    assert text.splitlines()[-1] == last
    assert there(tmp_path) == set()
    assert "Traceback" not in text


def test_an_interruption_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            raise KeyboardInterrupt

    def open_(path: Path, *arguments: Any, **options: Any) -> Any:
        file = original(path, *arguments, **options)
        if path.name != "conftest.py":
            return file
        file.close()
        return Interrupted()

    original = Path.open
    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(TrustLLMError, match=r"^init: interrupted; the same command writes the files that are missing$"):
        run_init(argparse.Namespace(directory=tmp_path, kind="chat"))
    monkeypatch.undo()
    assert "conftest.py" not in there(tmp_path)
    assert init(tmp_path, "--kind", "chat").returncode == 0
    assert there(tmp_path) == FILES


def init_on_terminal(directory: Path, typed: str) -> tuple[int, str]:
    """Run the command on a terminal; return its status, and what the terminal shows."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest_trustllm.cli", "init"]
    shown = b""
    with subprocess.Popen(
        command, cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_control
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(ours, 4096):
                shown += chunk
                if typed and b"Enter: 1]: " in shown:
                    os.write(ours, typed.encode())
                    typed = ""
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def _control() -> None:
    """Make the terminal the process's own, so that it gets Ctrl-C."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_an_unknown_kind_is_a_usage_error(tmp_path: Path) -> None:
    result = init(tmp_path, "--kind", "website")
    assert result.returncode == 4
    assert "argument --kind: invalid choice: 'website'" in result.stderr
    assert there(tmp_path) == set()


# --- files that are there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "schema"),
    [("suites/app.yaml", "trustllm-suite"), ("thresholds/safety.yaml", "trustllm-thresholds")],
)
def test_editors_find_the_schema_that_the_first_line_names(project: Path, file: str, schema: str) -> None:
    first, text = (project / file).read_text(encoding="utf-8").split("\n", 1)
    assert first == f"# yaml-language-server: $schema=../schemas/{schema}.schema.json"
    named = (project / file).parent / first.partition("$schema=")[2]
    Draft202012Validator(yaml.safe_load(named.read_text(encoding="utf-8"))).validate(yaml.safe_load(text))


def test_the_second_time_nothing_changes(project: Path) -> None:
    before = {name: (project / name).read_bytes() for name in FILES}
    result = init(project)
    assert result.returncode == 0
    kept = {line.removeprefix("kept  ") for line in result.stdout.splitlines() if line.startswith("kept")}
    assert kept == {f"{name}: it already exists" for name in FILES}
    assert "wrote" not in result.stdout
    assert "needs the fixture" not in result.stdout
    assert {name: (project / name).read_bytes() for name in FILES} == before


def test_files_of_the_team_are_kept_and_what_they_lack_is_said(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import mine\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-q'\n")
    result = init(tmp_path)
    assert result.returncode == 0
    assert (tmp_path / "conftest.py").read_text() == "import mine\n"
    assert not (tmp_path / "pytest.ini").exists()
    assert "kept  conftest.py: it already exists" in result.stdout
    assert "kept  pyproject.toml, which configures pytest" in result.stdout
    assert "Your conftest.py needs the fixture trust_model:" in result.stdout
    assert "    return TrustModel.from_callable(answer," in result.stdout
    assert "Your pyproject.toml should set trust_builtin_suites = false" in result.stdout


def test_thresholds_for_another_suite_are_left_out(tmp_path: Path) -> None:
    assert init(tmp_path, "--kind=chat").returncode == 0
    result = init(tmp_path, "--kind=rag")
    assert result.returncode == 0
    assert "left out thresholds/truthfulness.yaml: its gates are about a suite for an app that " in result.stdout
    assert not (tmp_path / "thresholds/truthfulness.yaml").exists()
    assert run(tmp_path, "pytest", "--trust-model=my-app", "-q").returncode == 0


def test_a_pyproject_that_says_nothing_about_pytest_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    assert "wrote pytest.ini" in init(tmp_path).stdout


def test_a_directory_is_made(tmp_path: Path) -> None:
    result = init(tmp_path, "new/shop")
    assert result.returncode == 0
    assert there(tmp_path / "new" / "shop") == FILES
    assert "    cd new/shop" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("suites", "file", "suites is in the way: a directory is needed there; move it"),
        (".github/workflows", "file", ".github/workflows is in the way: a directory is needed there; move it"),
        ("conftest.py", "directory", "conftest.py is in the way: a file is needed there; move it"),
    ],
)
def test_what_is_in_the_way_is_told_before_anything_is_written(
    path: str, kind: str, message: str, tmp_path: Path
) -> None:
    blocked = tmp_path / path
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.mkdir() if kind == "directory" else blocked.write_text("mine")
    before = there(tmp_path)
    result = init(tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (4, "", f"ERROR: init: {message}\n")
    assert there(tmp_path) == before


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    result = init(tmp_path, "shop")
    assert result.returncode == 4
    assert result.stderr == "ERROR: init: shop is in the way: a directory is needed there; move it\n"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory in which not even root can write")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    result = init(tmp_path, "/proc/self")
    assert result.returncode == 4
    assert result.stderr.startswith("ERROR: init: /proc/self/suites cannot be written or read: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "pytest.ini"
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.ini").symlink_to(target)
    result = init(project)
    assert "kept  pytest.ini: it already exists" in result.stdout
    assert not target.exists()
