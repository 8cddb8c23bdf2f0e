"""The command ``pytest-trustllm``.

Exit status: 0: done; 1: the answer is no (a copy differs, there is no data, a download failed, a judge returned nothing
readable); 4: the command line, or a file that it names, is unusable, as with pytest itself; 130: interrupted. An error
is reported in one line on standard error.

Every command is a module of this package with ``add(commands)``, which declares it and sets ``run``, a function that
takes the parsed arguments and returns the exit status. What a command needs is imported when it runs, so that
``--help`` is fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pytest_trustllm.cli import (
    card,
    comment,
    compare,
    data,
    export,
    gate,
    history,
    init,
    judge_check,
    label,
    list_suites,
    merge,
    models,
    power,
    report,
    schema,
    verify,
)
from pytest_trustllm.cli.output import complain, flush, say
from pytest_trustllm.config.containment import files_anywhere
from pytest_trustllm.errors import TrustLLMError

USAGE = 4
_COMMANDS = (
    init,
    models,
    list_suites,
    data,
    label,
    judge_check,
    report,
    gate,
    power,
    merge,
    compare,
    export,
    card,
    comment,
    verify,
    history,
    schema,
)


class Parser(argparse.ArgumentParser):
    """Reports an error in one line and exits with pytest's status for wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Report what is wrong and exit."""
        complain(f"{message} (see '{self.prog} --help')")
        sys.exit(USAGE)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(prog="pytest-trustllm", description="Commands for saved runs, models, data sets and judges.")
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        argv: Arguments without the program's name; None: those of the process.
    """
    top = parser()
    try:
        args = top.parse_args(argv)
        if not args.version and not hasattr(args, "run"):
            top.error("a command is missing")
    except SystemExit as e:  # argparse exits like this after --help, and Parser.error after an error
        return e.code if isinstance(e.code, int) else USAGE
    try:
        status = _run(args)
        flush()
        return status
    except TrustLLMError as e:
        complain(str(e))
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough; nothing may be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(args: argparse.Namespace) -> int:
    if args.version:
        from importlib.metadata import version

        say(f"pytest-trustllm {version('pytest-trustllm')}")
        return 0
    with files_anywhere(getattr(args, "allow_outside", False)):
        status: int = args.run(args)
    return status
