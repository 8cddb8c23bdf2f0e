"""``pytest-trustllm init``: a starter project that tests the user's own app."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.config import paths
from pytest_trustllm.config.paths import exists, is_directory, is_file
from pytest_trustllm.errors import TrustLLMError

_SCHEMAS = "schemas"
_CONFTEST, _INI, _WORKFLOW = "conftest.py", "pytest.ini", ".github/workflows/trust.yml"
_SETTING = "trust_builtin_suites"
_SECTIONS = {
    **dict.fromkeys(("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"), ""),
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""Files that configure pytest, in pytest's order, and the text that shows that one does."""
_ABOUT = """\
Writes a project that tests your own app into DIR (default: here): a suite with made-up items, a threshold file, a
conftest.py with a toy app, a form for its documentation, pytest.ini, a workflow for GitHub Actions, and the schemas for
editors. A file that already exists is kept.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "init", help="write a starter project for your own app", description=_ABOUT, allow_abbrev=False
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=Path(), help="created if it does not exist"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files that do not exist yet, and print what to do next."""
    try:
        return _init(args.directory)
    except BrokenPipeError:  # of the terminal, not of a file
        raise
    except OSError as e:
        path = e.filename or args.directory
        raise TrustLLMError(f"init: {path} cannot be written or read: {e.strerror or e}") from None


def _init(root: Path) -> int:
    files = _files()
    _check_paths(root, files)
    configuration = _pytest_configuration(root)
    for name, text in files.items():
        # a pytest.ini would silence the settings of a pyproject.toml
        if name == _INI and configuration not in (None, _INI):
            say(f"kept  {configuration}, which configures pytest")
        elif _write(root / name, text):
            say(f"wrote {name}")
        else:
            say(f"kept  {name}: it already exists")
    for line in _missing_settings(root, configuration or _INI):
        say(line)
    for line in _next_steps(root):
        say(line)
    return 0


def _files() -> dict[str, str]:
    """Return path in the project -> text."""
    from pytest_trustllm import extensions
    from pytest_trustllm.cli import json_schemas

    suite_line = json_schemas.editor_line("suite", f"../{_SCHEMAS}")
    thresholds_line = json_schemas.editor_line("thresholds", f"../{_SCHEMAS}")
    files = {
        "suites/app.yaml": f"{suite_line}\n{_starter('suite.yaml')}",
        "thresholds/safety.yaml": f"{thresholds_line}\n{_starter('thresholds.yaml')}",
        "card.yaml": _starter("card.yaml"),
        _CONFTEST: _starter("conftest.txt"),
        _INI: _starter("pytest.ini"),
        _WORKFLOW: _starter("workflow.yaml"),
    }
    registry = extensions.build_registry(extensions.register_functions())
    for kind in json_schemas.KINDS:
        schema = json_schemas.schema(kind, registry)
        files[f"{_SCHEMAS}/{json_schemas.file_name(kind)}"] = json_schemas.text(schema)
    return files


def _starter(name: str) -> str:
    return paths.packaged("cli", "starter", name).read_text(encoding="utf-8")


def _check_paths(root: Path, names: Iterable[str]) -> None:
    """Check that nothing is in the way, before the first file is written.

    Raises:
        TrustLLMError: There is a file where a directory is needed, or a directory where a file is needed.
    """
    for name in names:
        path = root / name
        for parent in path.parents:
            if exists(parent) and not is_directory(parent):
                raise TrustLLMError(f"init: {parent} is in the way: a directory is needed there; move it")
        if is_directory(path):
            raise TrustLLMError(f"init: {path} is in the way: a file is needed there; move it")


def _pytest_configuration(root: Path) -> str | None:
    """Return the name of the file that configures pytest; None if there is none."""
    for name, section in _SECTIONS.items():
        path = root / name
        if is_file(path) and section in path.read_text(encoding="utf-8", errors="replace"):
            return name
    return None


def _write(path: Path, text: str) -> bool:
    """Write a file and return True; return False if it already exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:  # a full disk: the next try would keep half a file
        path.unlink(missing_ok=True)
        raise
    return True


def _missing_settings(root: Path, configuration: str) -> list[str]:
    """Return in words what the files that were kept lack."""
    lines: list[str] = []
    if "trust_model" not in (root / _CONFTEST).read_text(encoding="utf-8", errors="replace"):
        _, _, fixture = _starter("conftest.txt").partition("\n\n\n@pytest")
        lines += ["", f"Your {_CONFTEST} needs the fixture trust_model:", "", f"@pytest{fixture}".rstrip()]
    if _SETTING not in (root / configuration).read_text(encoding="utf-8", errors="replace"):
        lines += [
            "",
            f"Your {configuration} should set {_SETTING} = false, unless the items of TrustLLM are to run too.",
        ]
    return lines


def _next_steps(root: Path) -> list[str]:
    change_directory = [f"    cd {root}"] if root != Path() else []
    return [
        "",
        "Next:",
        *change_directory,
        "    pytest --trust-model=my-app --trust-report=trust.html",
        f"Then put your app into {_CONFTEST}, your items into suites/app.yaml, and your bounds into thresholds/.",
    ]
