"""``pytest-trustllm models``: which models have names, and the published scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import add_models_file
from pytest_trustllm.cli.output import say, table, wrapped

if TYPE_CHECKING:
    from pytest_trustllm.models.catalogue import Alias, Leaderboard


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("models", help="list models by name, and the published scores", allow_abbrev=False)
    parser.add_argument("--scores", action="store_true", help="the published scores alone")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    add_models_file(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from pytest_trustllm.models import catalogue
    from pytest_trustllm.registry import Registry

    registry, board = Registry(), catalogue.published()
    aliases = catalogue.listing(args.models, registry)
    if args.json:
        say(json.dumps(_document(aliases, board), indent=1, ensure_ascii=True))
        return 0
    if not args.scores:
        say(_aliases(aliases))
        say()
        say(wrapped(f"A model's name: {catalogue.accepted(registry)}"))
        say()
    say(_scores(board))
    return 0


def _aliases(aliases: Sequence[Alias]) -> str:
    rows = [("name", "provider", "model", "weights", "paper", "licence")]
    for a in aliases:
        weights = {True: "open", False: "closed", None: ""}[a.open]
        paper = {True: "yes", False: "no", None: ""}[a.in_paper]
        rows.append((a.name, a.provider or "-", a.target or "not available", weights, paper, a.licence or ""))
    gone = [wrapped(f"{a.name}: {a.unavailable}", "  ") for a in aliases if a.unavailable]
    return "\n".join([table(rows, (16, 11, 36, 7, 5, 18)), *([""] if gone else []), *gone])


def _scores(board: Leaderboard) -> str:
    parts = []
    for dimension in sorted({id_.partition("/")[0] for id_ in board.metrics}):
        ids = [id_ for id_ in board.metrics if id_.startswith(f"{dimension}/")]
        heads = [_head(id_.partition("/")[2]) for id_ in ids]
        rows = [
            (dimension, *(f"{head} {'↑' if board.metrics[id_] else '↓'}" for head, id_ in zip(heads, ids, strict=True)))
        ]
        for model, scores in board.scores.items():
            rows.append((model, *(_number(scores.get(id_)) for id_ in ids)))
        widths = (16, *(max(map(len, head.split())) for head in heads))
        parts += [table(rows, widths, right=range(1, len(widths))), ""]
    note = "↑ higher is better, ↓ lower is better, as the source has it; - not reported. In the paper: "
    return "\n".join([*parts, wrapped(note + ", ".join(sorted(board.in_paper))), wrapped(f"Source: {board.source}")])


def _head(metric: str) -> str:
    return metric.replace("_", " ").replace(".", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _document(aliases: Sequence[Alias], board: Leaderboard) -> dict[str, Any]:
    return {
        "models": [
            {
                "name": a.name,
                "aliases": list(a.aliases),
                "provider": a.provider or None,
                "model": a.target or None,
                "revision": a.revision,
                "kind": a.kind,
                "licence": a.licence,
                "open": a.open,
                "in_paper": a.in_paper,
                "notes": a.notes,
                "unavailable": a.unavailable,
            }
            for a in aliases
        ],
        "published": {
            "source": board.source,
            "higher_is_better": dict(board.metrics),
            "scores": {model: dict(scores) for model, scores in board.scores.items()},
            "in_paper": sorted(board.in_paper),
        },
    }
