"""``pytest-trustllm schema``: what editors need for the YAML files, and programs for what a run writes."""

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

"results" and "samples" describe what a run writes with --trust-results: the results file, and each line of the samples
file.
"""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "schema",
        help="JSON Schemas of the YAML files, for editors, and of results and samples files",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "kind",
        nargs="?",
        metavar="KIND",
        help="suite, thresholds, models, results or samples (default: all, as one JSON object by these names)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="write a file per schema into DIR instead, over older ones"
    )
    add_conftest(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write them."""
    from pytest_trustllm.cli import json_schemas
    from pytest_trustllm.config.files import write_whole

    kinds = [*json_schemas.KINDS, *json_schemas.WRITTEN]
    if args.kind is not None:
        if args.kind not in kinds:
            unknown = one_line(repr(args.kind), 60)
            raise TrustLLMError(f"schema: no kind of file {unknown}{suggest(args.kind, kinds)}")
        kinds = [args.kind]
    registry = registry_of(args.conftest)
    schemas = {kind: json_schemas.schema(kind, registry) for kind in kinds}
    if args.output is None:
        printed = schemas if args.kind is None else schemas[args.kind]
        say(json_schemas.text(printed).rstrip())
        return 0
    for kind, schema in schemas.items():
        path = args.output / json_schemas.file_name(kind)
        write_whole(path, [json_schemas.text(schema)], "-o", public=True)
        say(f"schema: {path}")
    return 0
