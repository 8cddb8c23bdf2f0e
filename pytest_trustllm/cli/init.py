"""``pytest-trustllm init``: a starter project for an app of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm import paths
from pytest_trustllm.cli.output import say
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
"""Files that configure pytest, and what such a one holds."""
_ABOUT = """\
Writes a project that tests an app of your own into DIR (default: here): a suite with made-up items, a threshold file,
a conftest.py with a toy app, pytest.ini, a workflow for GitHub Actions, and the schemas for editors. A file that is
there already is kept.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "init", help="write a starter project for your own app", description=_ABOUT, allow_abbrev=False
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, default=Path(), help="made if it does not exist"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write what is not there yet, and say what to do next."""
    try:
        return _init(args.directory)
    except BrokenPipeError:  # of the terminal, not of a file
        raise
    except OSError as e:
        where = e.filename or args.directory
        raise TrustLLMError(f"init: {where} cannot be written or read: {e.strerror or e}") from None


def _init(root: Path) -> int:
    files = _files()
    _look(root, files)
    configured = _configured(root)
    for name, text in files.items():
        if name == _INI and configured not in (None, _INI):
            say(f"kept  {configured}, which configures pytest")
        elif _write(root / name, text):
            say(f"wrote {name}")
        else:
            say(f"kept  {name}: it is there already")
    for line in (*_missing(root, configured or _INI), *_next(root)):
        say(line)
    return 0


def _files() -> dict[str, str]:
    """Return path in the project -> text."""
    from pytest_trustllm import schemas
    from pytest_trustllm.registry import Registry

    registry, above = Registry(), f"../{_SCHEMAS}"
    return {
        "suites/app.yaml": f"{schemas.editor_line('suite', above)}\n{_starter('suite.yaml')}",
        "thresholds/safety.yaml": f"{schemas.editor_line('thresholds', above)}\n{_starter('thresholds.yaml')}",
        _CONFTEST: _starter("conftest.txt"),
        _INI: _starter("pytest.ini"),
        _WORKFLOW: _starter("workflow.yaml"),
        **{
            f"{_SCHEMAS}/{schemas.file_name(kind)}": schemas.text(schemas.schema(kind, registry))
            for kind in schemas.KINDS
        },
    }


def _starter(name: str) -> str:
    return paths.packaged("cli", "starter", name).read_text(encoding="utf-8")


def _look(root: Path, files: Mapping[str, str]) -> None:
    """See that nothing stands in the way, before the first file is written.

    Raises:
        TrustLLMError: A file where a directory is needed, or a directory where a file is.
    """
    for path in (root / name for name in files):
        for parent in path.parents:
            if parent.exists() and not parent.is_dir():
                raise TrustLLMError(f"init: {parent} is in the way: a directory is needed there; move it")
        if path.is_dir():
            raise TrustLLMError(f"init: {path} is in the way: a file is needed there; move it")


def _configured(root: Path) -> str | None:
    """Return the name of the file that configures pytest."""
    for name, section in _SECTIONS.items():
        path = root / name
        if path.is_file() and section in path.read_text(encoding="utf-8", errors="replace"):
            return name
    return None


def _write(path: Path, text: str) -> bool:
    """Write a file and return true; false: something is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("x", encoding="utf-8", newline="\n")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:  # a full disk: half a file would be kept by the next try
        path.unlink(missing_ok=True)
        raise
    return True


def _missing(root: Path, configured: str) -> list[str]:
    """Return what a kept file lacks, in words."""
    found = []
    if "trust_model" not in (root / _CONFTEST).read_text(encoding="utf-8", errors="replace"):
        fixture = _starter("conftest.txt").partition("\n\n\n@pytest")
        found += ["", f"Your {_CONFTEST} needs the fixture trust_model:", "", f"@pytest{fixture[2]}".rstrip()]
    if _SETTING not in (root / configured).read_text(encoding="utf-8", errors="replace"):
        found += ["", f"Your {configured} should say {_SETTING} = false, unless the items of TrustLLM are to join."]
    return found


def _next(root: Path) -> list[str]:
    there = [f"    cd {root}"] if root != Path() else []
    return [
        "",
        "Next:",
        *there,
        "    pytest --trust-model=my-app --trust-report=trust.html",
        f"Then put your app into {_CONFTEST}, your items into suites/app.yaml, and your bounds into thresholds/.",
    ]
