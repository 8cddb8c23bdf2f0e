"""``pytest-trustllm init``: a starter project that tests the user's own app."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.config import paths
from pytest_trustllm.config.paths import exists, is_directory, is_file
from pytest_trustllm.errors import TrustLLMError

_SCHEMAS, _THRESHOLDS = "schemas", "thresholds"
_SUITE = "suites/app.yaml"
_CONFTEST, _INI, _WORKFLOW = "conftest.py", "pytest.ini", ".github/workflows/trust.yml"
_BUILTIN_SUITES = "trust_builtin_suites"
_SECTIONS = {
    **dict.fromkeys(("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"), ""),
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""Files that configure pytest, in pytest's order, and the text that shows that one does."""
_ABOUT = """\
Writes a project that tests your own app into DIR (default: here): a suite with made-up items for what you test, a
threshold file, a conftest.py with a toy app (for a fine-tune: a models file with two toy models), a form for its
documentation, pytest.ini, a workflow for GitHub Actions, and the schemas for editors. Existing files are kept, and
thresholds that do not fit an existing suite are left out.
"""


@dataclass(frozen=True, slots=True)
class _Starter:
    """A project for one kind of app; its texts are in the directory ``starter``, in one of its name.

    Attributes:
        about: What is tested, for people.
        dimension: Of its suite.
        model: Name of the model to test.
        own_files: Path in the project -> file of the directory, for what not all starters have alike.
    """

    about: str
    dimension: str = "safety"
    model: str = "my-app"
    own_files: Mapping[str, str] = field(default_factory=lambda: {_CONFTEST: "conftest.txt"})


_STARTERS = {
    "chat": _Starter("a chat app"),
    "agent": _Starter("an agent with tools"),
    "fine-tune": _Starter(
        "a fine-tuned model",
        model="my-fine-tune",
        own_files={"models.yaml": "models.yaml", "toy_models.py": "toy_models.txt", _INI: "pytest.ini"},
    ),
    "rag": _Starter("an app that answers from documents (RAG)", dimension="truthfulness"),
}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "init", help="write a starter project for your own app", description=_ABOUT, allow_abbrev=False
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=Path(), help="created if it does not exist"
    )
    parser.add_argument(
        "--kind",
        choices=list(_STARTERS),
        help="what is tested: a chat app, an agent with tools, a fine-tuned model, or an app that answers from "
        "documents (default: asked on a terminal, otherwise chat)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files that do not exist yet, and print what to do next."""
    kind = args.kind
    if kind is None:
        kind = _asked() if sys.stdin.isatty() and sys.stdout.isatty() else "chat"
    if kind is None:
        say()
        raise TrustLLMError("init: nothing was chosen, so nothing was written; --kind answers the question")
    try:
        return _init(args.directory, kind)
    except KeyboardInterrupt:
        raise TrustLLMError("init: interrupted; the same command writes the files that are missing") from None
    except BrokenPipeError:  # of the terminal, not of a file
        raise
    except OSError as e:
        path = e.filename or args.directory
        raise TrustLLMError(f"init: {path} cannot be written or read: {e.strerror or e}") from None


def _asked() -> str | None:
    """Ask on the terminal what is tested; an empty line is the first choice. None: Ctrl-D or Ctrl-C."""
    kinds = list(_STARTERS)
    say("What do you test?")
    for number, starter in enumerate(_STARTERS.values(), 1):
        say(f"  {number}  {starter.about}")
    while True:
        try:
            sys.stdout.write(f"Number [1 to {len(kinds)}, Enter: 1]: ")
            sys.stdout.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return None
        if not line:
            return None
        given = line.strip() or "1"
        if given in kinds:
            return given
        if given.isascii() and given.isdigit() and 1 <= int(given) <= len(kinds):
            return kinds[int(given) - 1]
        say(f"Please type a number from 1 to {len(kinds)}.")


def _init(root: Path, kind: str) -> int:
    files = _files(kind)
    _check_paths(root, files)
    configuration = _pytest_configuration(root)
    has_other_suite = is_file(root / _SUITE) and _content(root / _SUITE) != files[_SUITE]
    for name, text in files.items():
        # a pytest.ini would silence the settings of a pyproject.toml
        if name == _INI and configuration not in (None, _INI):
            say(f"kept  {configuration}, which configures pytest")
        elif has_other_suite and name.startswith(f"{_THRESHOLDS}/") and not exists(root / name):
            say(
                f"left out {name}: its gates are about a suite for {_STARTERS[kind].about}, and {_SUITE} is another one"
            )
        elif _write(root / name, text):
            say(f"wrote {name}")
        else:
            say(f"kept  {name}: it already exists")
    for line in _missing_settings(root, configuration or _INI, kind, files[_INI]):
        say(line)
    for line in _next_steps(root, kind):
        say(line)
    return 0


def _files(kind: str) -> dict[str, str]:
    """Return path in the project -> text."""
    from pytest_trustllm import extensions
    from pytest_trustllm.cli import json_schemas

    starter = _STARTERS[kind]
    suite_line = json_schemas.editor_line("suite", f"../{_SCHEMAS}")
    thresholds_line = json_schemas.editor_line("thresholds", f"../{_SCHEMAS}")
    files = {
        _SUITE: f"{suite_line}\n{_text(kind, 'suite.yaml')}",
        f"{_THRESHOLDS}/{starter.dimension}.yaml": f"{thresholds_line}\n{_text(kind, 'thresholds.yaml')}",
        "card.yaml": _text("card.yaml"),
        _INI: _text("pytest.ini"),
        _WORKFLOW: _text("workflow.yaml").replace("my-app", starter.model),
    }
    for path, name in starter.own_files.items():
        files[path] = _text(kind, name)
    registry = extensions.build_registry(extensions.register_functions())
    for kind in json_schemas.KINDS:
        schema = json_schemas.schema(kind, registry)
        files[f"{_SCHEMAS}/{json_schemas.file_name(kind)}"] = json_schemas.text(schema)
    return files


def _text(*names: str) -> str:
    return paths.packaged("cli", "starter", *names).read_text(encoding="utf-8")


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
    except BaseException:  # a full disk, Ctrl-C: the next try would keep half a file
        path.unlink(missing_ok=True)
        raise
    return True


def _missing_settings(root: Path, configuration: str, kind: str, ini: str) -> list[str]:
    """Return in words what the files that were kept lack."""
    lines: list[str] = []
    conftest = root / _CONFTEST
    if _CONFTEST in _STARTERS[kind].own_files and "trust_model" not in _content(conftest):
        _, _, fixture = _text(kind, "conftest.txt").partition("\n\n\n@pytest")
        lines += ["", f"Your {_CONFTEST} needs the fixture trust_model:", "", f"@pytest{fixture}".rstrip()]
    settings = _content(root / configuration)
    for line in ini.splitlines():
        name = line.partition(" = ")[0]
        if not name.startswith("trust_") or name in settings:
            continue
        unless = ", unless the items of TrustLLM are to run too" if name == _BUILTIN_SUITES else ""
        lines += ["", f"Your {configuration} should set {line}{unless}."]
    return lines


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _next_steps(root: Path, kind: str) -> list[str]:
    change_directory = [f"    cd {root}"] if root != Path() else []
    starter = _STARTERS[kind]
    first = f"your app into {_CONFTEST}" if _CONFTEST in starter.own_files else "your models into models.yaml"
    return [
        "",
        "Next:",
        *change_directory,
        f"    pytest --trust-model={starter.model} --trust-report=trust.html",
        f"Then put {first}, your items into suites/app.yaml, and your bounds into thresholds/.",
    ]
