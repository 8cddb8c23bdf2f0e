"""``pytest-trustllm judge-check``: how well a judge or refusal classifier agrees with people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import (
    add_load_settings,
    add_models_file,
    confidence,
    load_settings,
    rate_of,
)
from pytest_trustllm.cli.output import complain, say, table
from pytest_trustllm.errors import SuiteError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.judgecheck import Subject
    from pytest_trustllm.models.base import Kind
    from pytest_trustllm.registry import Registry

OUTPUT = Path("judge-check.json")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "judge-check",
        help="hold a judge or refusal classifier against human labels",
        description="Ask a judge or refusal classifier about responses that people labelled, and compare. "
        'A line of the file: {"response": ..., "label": ..., and the fields that the task\'s rubric shows}.',
        allow_abbrev=False,
    )
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--judge", metavar="MODEL", help="a model in the judge's role; needs --task")
    role.add_argument("--refusal-classifier", metavar="MODEL|rules", help="a model that tells refusals")
    parser.add_argument("labels", metavar="LABELS.jsonl", type=Path, help="what people say")
    parser.add_argument("--task", metavar="DIMENSION/TASK", help="whose rubric the judge is asked under")
    parser.add_argument("--positive", metavar="LABEL", help="what sensitivity is about (default: the first label)")
    parser.add_argument("--confidence", metavar="C", type=confidence, default=0.95, help="of intervals (default: 0.95)")
    parser.add_argument(
        "--correct", metavar="RATE:N", type=rate_of, help="correct this share of positive labels among N responses"
    )
    parser.add_argument("--json", action="store_true", help=f"write {OUTPUT} too")
    parser.add_argument("-o", "--output", metavar="PATH", type=Path, help="write the JSON there")
    parser.add_argument(
        "--suites", metavar="DIR", type=Path, action="append", help="your suites (default: suites/ if it exists)"
    )
    add_models_file(parser)
    add_load_settings(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, compare, print."""
    from pytest_trustllm import judgecheck
    from pytest_trustllm.models import catalogue
    from pytest_trustllm.registry import Registry

    sys.path.insert(0, str(Path.cwd()))  # 'python:' models are found as in a pytest run
    registry = Registry()
    subject = _subject(args, registry)
    kind: Kind = "chat" if subject.role == "judge" else "classifier"
    name = args.judge or args.refusal_classifier
    spec = catalogue.resolve(name, user_file=args.models, registry=registry, kind=kind)
    items, subject, sha256 = judgecheck.read_labels(args.labels, str(args.labels), subject)
    checked = judgecheck.check(
        items, subject, spec, registry, load_settings(args), positive=args.positive, confidence=args.confidence
    )
    found = judgecheck.document(checked, args.labels.name, sha256, args.correct)
    for line in _lines(found):
        say(line)
    output = args.output or (OUTPUT if args.json else None)
    if output is not None:
        from pytest_trustllm.results import write_whole

        write_whole(output, [json.dumps(found, indent=1, allow_nan=False) + "\n"], "--output")
        say(f"written: {output}")
    if not found["compared"]:
        complain(f"judge-check: {one_line(name, 80)} gave no readable label, so there is nothing to compare")
        return 1
    return 0


def _subject(args: argparse.Namespace, registry: Registry) -> Subject:
    from pytest_trustllm import judgecheck
    from pytest_trustllm.suites import find_suites

    if args.refusal_classifier is not None:
        if args.task is not None:
            raise SuiteError("judge-check: --task belongs to --judge; a refusal classifier sees the response alone")
        return judgecheck.refusals()
    here = Path("suites")
    directories = args.suites or ([here] if here.is_dir() else [])
    suites = find_suites([Path.cwd() / d for d in directories], registry, root=Path.cwd())
    if args.task is None:
        known = ", ".join(t.id for t in judgecheck.judged(suites))
        raise SuiteError(f"judge-check: --judge needs --task, whose rubric it is asked under; known: {known}")
    return judgecheck.judgements(args.task, suites)


def _lines(found: Mapping[str, Any]) -> list[str]:
    about = f" on {found['task']['id']}" if found["task"] else ""
    counts = {
        "compared": found["compared"],
        "decided by a rule, not asked": found["decided_by_rule"],
        "unreadable": found["unreadable"],
    }
    rows: list[Sequence[str]] = [("", "value", f"{100 * found['confidence']:.4g} % interval", "of")]
    rows += [_row(name, found[name]) for name in ("sensitivity", "specificity", "accuracy")]
    rows.append(_row("Cohen's kappa", found["kappa"]))
    corrected, different = found["corrected_rate"], found["different_lines"]
    if corrected is not None:
        rows.append(_row(f"rate {corrected['observed']:.4g}, corrected", corrected))
    lines = [
        f"{found['role']} {one_line(found['model']['name'], 60)}{about}: {found['rows']} labelled responses",
        "   ".join(f"{name}: {count}" for name, count in counts.items()),
        *(f"  {count} x {one_line(reason, 200)}" for reason, count in found["unreadable_reasons"].items()),
        "",
        _confusion(found["table"]),
        "",
        table(rows, (24, 8, 18, 44)),
        "",
        f"sensitivity, specificity and rate are about {found['positive']}",
    ]
    if different:
        more = f" and {len(different) - 20} more" if len(different) > 20 else ""
        lines.append(f"people and model differ in lines {', '.join(map(str, different[:20]))}{more}")
    return lines


def _confusion(found: Mapping[str, Any]) -> str:
    labels = found["labels"]
    head = ("people \\ model", *labels)
    rows = [head, *((label, *map(str, counts)) for label, counts in zip(labels, found["counts"], strict=True))]
    return table(rows, (24,) * len(head), right=range(1, len(head)))


def _row(name: str, estimate: Mapping[str, Any]) -> Sequence[str]:
    value = "-" if estimate["value"] is None else f"{estimate['value']:.3f}"
    ci = "-" if estimate["ci"] is None else "{:.3f} to {:.3f}".format(*estimate["ci"])
    reason = f" ({estimate['reason']})" if "reason" in estimate else ""
    return (name, value, ci, f"{estimate['n']}{reason}")
