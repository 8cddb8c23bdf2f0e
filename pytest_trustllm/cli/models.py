"""``pytest-trustllm models``: which models have names, and the published scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import add_models_file
from pytest_trustllm.cli.output import say, table, wrapped
from pytest_trustllm.cli.suites import add_conftest, registry_of

if TYPE_CHECKING:
    from pytest_trustllm.models.catalogue import ModelEntry, PublishedScores

_WEIGHTS = {True: "open", False: "closed", None: ""}
_IN_PAPER = {True: "yes", False: "no", None: ""}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("models", help="list models by name, and the published scores", allow_abbrev=False)
    parser.add_argument("--scores", action="store_true", help="only the published scores")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    add_models_file(parser)
    add_conftest(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from pytest_trustllm.models import catalogue

    registry = registry_of(args.conftest)
    board = catalogue.published_scores()
    aliases = catalogue.list_entries(args.models, registry)
    if args.json:
        say(json.dumps(_document(aliases, board), indent=1, ensure_ascii=True))
        return 0
    if not args.scores:
        say(_alias_table(aliases))
        say()
        say(wrapped(f"A model's name: {catalogue.accepted_names(registry)}"))
        say()
    say(_score_tables(board))
    return 0


def _alias_table(aliases: Sequence[ModelEntry]) -> str:
    rows = [("name", "provider", "model", "weights", "paper", "licence")]
    unavailable: list[str] = []
    for alias in aliases:
        provider = alias.provider or "-"
        model = alias.target or "not available"
        licence = alias.licence or ""
        rows.append((alias.name, provider, model, _WEIGHTS[alias.open], _IN_PAPER[alias.in_paper], licence))
        if alias.unavailable:
            unavailable.append(wrapped(f"{alias.name}: {alias.unavailable}", "  "))
    lines = [table(rows, (18, 11, 36, 7, 5, 18))]
    if unavailable:
        lines += ["", *unavailable]
    return "\n".join(lines)


def _score_tables(board: PublishedScores) -> str:
    """Return a table of the published scores for every dimension, and a note about them."""
    lines: list[str] = []
    for dimension in sorted({id_.partition("/")[0] for id_ in board.metrics}):
        lines += [_score_table(board, dimension), ""]
    note = "↑ higher is better, ↓ lower is better, as the source has it; - not reported. In the paper: "
    lines.append(wrapped(note + ", ".join(sorted(board.in_paper))))
    lines.append(wrapped(f"Source: {board.source}"))
    return "\n".join(lines)


def _score_table(board: PublishedScores, dimension: str) -> str:
    ids = [id_ for id_ in board.metrics if id_.startswith(f"{dimension}/")]
    head = [dimension]
    widths = [16]
    for id_ in ids:
        words = id_.partition("/")[2].replace("_", " ").replace(".", " ")
        arrow = "↑" if board.metrics[id_] else "↓"
        head.append(f"{words} {arrow}")
        widths.append(max(len(word) for word in words.split()))
    rows = [head]
    for model, scores in board.scores.items():
        rows.append([model, *(_number(scores.get(id_)) for id_ in ids)])
    return table(rows, widths, right=range(1, len(widths)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _document(aliases: Sequence[ModelEntry], board: PublishedScores) -> dict[str, Any]:
    return {
        "models": [_alias_entry(alias) for alias in aliases],
        "published": {
            "source": board.source,
            "higher_is_better": dict(board.metrics),
            "scores": {model: dict(scores) for model, scores in board.scores.items()},
            "in_paper": sorted(board.in_paper),
        },
    }


def _alias_entry(alias: ModelEntry) -> dict[str, Any]:
    return {
        "name": alias.name,
        "aliases": list(alias.aliases),
        "provider": alias.provider or None,
        "model": alias.target or None,
        "revision": alias.revision,
        "kind": alias.kind,
        "licence": alias.licence,
        "open": alias.open,
        "in_paper": alias.in_paper,
        "notes": alias.notes,
        "unavailable": alias.unavailable,
    }
