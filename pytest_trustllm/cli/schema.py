"""``pytest-trustllm schema``: what editors need to check and complete the YAML files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_conftest, registry_of
from pytest_trustllm.errors import TrustLLMError, one_line, suggest

_ABOUT = """\
Prints the JSON Schemas (draft 2020-12) of the YAML files that a project writes: suite files, threshold files, and the
models file. Editors with the YAML language server (VS Code's YAML extension, Neovim, JetBrains) check and complete a
file whose first line names its schema:

  pytest-trustllm schema -o schemas

  # yaml-language-server: $schema=../schemas/trustllm-suite.schema.json         first line of suites/*.yaml
  # yaml-language-server: $schema=../schemas/trustllm-thresholds.schema.json    first line of thresholds/*.yaml
  # yaml-language-server: $schema=schemas/trustllm-models.schema.json           first line of models.yaml

Write them again after an update of pytest-trustllm.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "schema",
        help="JSON Schemas of suite, threshold and models files, for editors",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "kind",
        nargs="?",
        metavar="KIND",
        help="suite, thresholds or models (default: all three, as one JSON object by these names)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="write a file per schema into DIR instead, over older ones"
    )
    add_conftest(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write them."""
    from pytest_trustllm import schemas
    from pytest_trustllm.results import write_whole

    if args.kind not in (None, *schemas.KINDS):
        found = one_line(repr(args.kind), 60)
        raise TrustLLMError(f"schema: no kind of file {found}{suggest(args.kind, schemas.KINDS)}")
    registry = registry_of(args.conftest)
    kinds = [args.kind] if args.kind else list(schemas.KINDS)
    described = {kind: schemas.schema(kind, registry) for kind in kinds}
    if args.output is None:
        say(schemas.text(described[args.kind] if args.kind else described).rstrip())
        return 0
    for kind in kinds:
        path = args.output / schemas.file_name(kind)
        write_whole(path, [schemas.text(described[kind])], "-o")
        say(f"schema: {path}")
    return 0
