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
from pytest_trustllm.cli.suites import add_suites, places, registry_of, suites_of
from pytest_trustllm.errors import ResultsError, SuiteError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.engine.judge_check import Subject
    from pytest_trustllm.models.base import ModelKind
    from pytest_trustllm.registry import Registry

OUTPUT = Path("judge-check.json")
SHOWN_LINES = 20
"""How many of the lines in which people and model differ are named."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "judge-check",
        help="compare a judge or refusal classifier with human labels",
        description="Prompt a judge or refusal classifier with responses that people labelled, and compare. "
        'A line of the file: {"response": ..., "label": ..., and the fields that the task\'s rubric shows}.',
        allow_abbrev=False,
    )
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--judge", metavar="MODEL", help="a model in the judge's role; needs --task")
    role.add_argument("--refusal-classifier", metavar="MODEL|builtin|rules", help="a model that recognizes refusals")
    role.add_argument(
        "--results", metavar="RESULTS.json", type=Path, help="the verdicts of this run on responses that label drew"
    )
    parser.add_argument("labels", metavar="LABELS.jsonl", type=Path, help="labels from people")
    parser.add_argument("--task", metavar="DIMENSION/TASK", help="whose rubric the judge is prompted with")
    parser.add_argument("--positive", metavar="LABEL", help="what sensitivity is about (default: the first label)")
    parser.add_argument("--confidence", metavar="C", type=confidence, default=0.95, help="of intervals (default: 0.95)")
    parser.add_argument(
        "--correct", metavar="RATE:N", type=rate_of, help="correct this share of positive labels among N responses"
    )
    parser.add_argument("--json", action="store_true", help=f"also write {OUTPUT}")
    parser.add_argument("-o", "--output", metavar="PATH", type=Path, help="write the JSON there")
    add_suites(parser)
    add_models_file(parser)
    add_load_settings(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare a model's labels, or the verdicts of a run, with people's, and print the figures."""
    document = _ask_model(args) if args.results is None else _check_run(args)
    for line in _lines(document):
        say(line)
    output = args.output
    if output is None and args.json:
        output = OUTPUT
    if output is not None:
        _write(output, document)
    if not document["compared"]:
        name = one_line(args.judge or args.refusal_classifier or document["model"]["name"], 80)
        complain(f"judge-check: {name} returned no readable label, so there is nothing to compare")
        return 1
    return 0


def _ask_model(args: argparse.Namespace) -> dict[str, Any]:
    """Have a model label the responses, and return the check."""
    from pytest_trustllm.engine import judge_check
    from pytest_trustllm.models import catalogue

    sys.path.insert(0, str(Path.cwd()))  # 'python:' models are found as in a pytest run
    registry = registry_of(args.conftest)
    subject = _subject(args, registry)
    kind: ModelKind = "chat" if subject.role == "judge" else "classifier"
    name = args.judge or args.refusal_classifier
    spec = catalogue.resolve(name, user_file=args.models, registry=registry, kind=kind)
    items, subject, sha256 = judge_check.read_labels(args.labels, str(args.labels), subject)
    agreement = judge_check.check_judge(
        items, subject, spec, registry, load_settings(args), positive=args.positive, confidence=args.confidence
    )
    return judge_check.document(agreement, args.labels.name, sha256, args.correct)


def _check_run(args: argparse.Namespace) -> dict[str, Any]:
    """Take the verdicts from a run, and return the check."""
    from pytest_trustllm.cli.run_check import check_run
    from pytest_trustllm.results.document import tasks_of
    from pytest_trustllm.results.files import read_results

    for option, value in (("--task", args.task), ("--positive", args.positive), ("--correct", args.correct)):
        if value is not None:
            raise ResultsError(f"judge-check: {option} is of no use with --results: labels and run say it")
    results = read_results(args.results)
    return check_run(args, results, tasks_of(suites_of(args, [(args.results, results)])))


def _write(output: Path, document: Mapping[str, Any]) -> None:
    from pytest_trustllm.config.files import write_whole

    write_whole(output, [json.dumps(document, indent=1, allow_nan=False) + "\n"], "--output")
    say(f"written: {output}")


def _subject(args: argparse.Namespace, registry: Registry) -> Subject:
    """Return what is checked: refusals, or the verdicts under a task's rubric."""
    from pytest_trustllm.engine import judge_check
    from pytest_trustllm.suites.reader import find_suites

    if args.refusal_classifier is not None:
        if args.task is not None:
            raise SuiteError("judge-check: --task belongs to --judge; a refusal classifier sees the response alone")
        return judge_check.refusals()
    directories, packages = places(args.suites)
    suites = find_suites(directories, registry, root=Path.cwd(), packages=packages, option="--suites")
    if args.task is None:
        known = ", ".join(task.id for task in judge_check.judged(suites))
        raise SuiteError(f"judge-check: --judge needs --task, whose rubric it is prompted with; known: {known}")
    return judge_check.judgements(args.task, suites)


def _lines(document: Mapping[str, Any]) -> list[str]:
    """Return the figures as people read them."""
    task = document["task"]
    about = f" on {task['id']}" if task else ""
    model = one_line(document["model"]["name"], 60)
    counts = {
        "compared": document["compared"],
        "decided by a rule, not by the model": document["decided_by_rule"],
        "unreadable": document["unreadable"],
    }
    lines = [
        f"{document['role']} {model}{about}: {document['rows']} labelled responses",
        "   ".join(f"{name}: {count}" for name, count in counts.items()),
    ]
    for reason, count in document["unreadable_reasons"].items():
        lines.append(f"  {count} x {one_line(reason, 200)}")
    lines += [
        "",
        _confusion_table(document["table"]),
        "",
        _estimates_table(document),
        "",
        f"sensitivity, specificity and rate are about {document['positive']}",
    ]
    if "drawn" in document:
        lines.append("responses were drawn by verdict: shares are weighted, 'of' is an effective number")
    different = document["different_lines"]
    if different:
        shown = ", ".join(str(number) for number in different[:SHOWN_LINES])
        further = len(different) - SHOWN_LINES
        more = f" and {further} more" if further > 0 else ""
        lines.append(f"people and model differ in lines {shown}{more}")
    return lines


def _confusion_table(confusion: Mapping[str, Any]) -> str:
    labels = confusion["labels"]
    rows: list[list[str]] = [["people \\ model", *labels]]
    for label, counts in zip(labels, confusion["counts"], strict=True):
        rows.append([label, *(str(count) for count in counts)])
    columns = len(labels) + 1
    return table(rows, [24] * columns, right=range(1, columns))


def _estimates_table(document: Mapping[str, Any]) -> str:
    rows: list[Sequence[str]] = [("", "value", f"{100 * document['confidence']:.4g} % interval", "of")]
    for name in ("sensitivity", "specificity", "accuracy"):
        rows.append(_estimate_row(name, document[name]))
    rows.append(_estimate_row("Cohen's kappa", document["kappa"]))
    corrected = document["corrected_rate"]
    if corrected is not None:
        rows.append(_estimate_row(f"rate {corrected['observed']:.4g}, corrected", corrected))
    text = table(rows, (24, 8, 18, 44))
    if "corrected" in document:
        text += "\n\n" + _corrected_table(document["corrected"])
    return text


def _corrected_table(rates: Mapping[str, Any]) -> str:
    """Return the rates of a run beside what people would count: first the metric itself, then its groups."""
    rows: list[Sequence[str]] = [("rate", "judge", "people", "interval", "labels", "power", "Rogan-Gladen")]
    for id_, rate in rates.items():
        value, limits = _value_and_limits(rate)
        power = f"{rate['power']:.2f}" if "power" in rate else "-"
        # the suite may have changed since the run: then there is a reason, and no number by either method
        _, other_limits = _value_and_limits(rate.get("rogan_gladen", rate))
        about = one_line(id_.partition("/")[2], 60)
        rows.append(
            (about, f"{rate['observed']:.3f}", value, limits, str(rate.get("labels", "-")), power, other_limits)
        )
    lines = [table(rows, (32, 6, 6, 14, 6, 5, 14), right=(1, 2, 4, 5))]
    for reason in dict.fromkeys(rate["reason"] for rate in rates.values() if "reason" in rate):
        lines.append(f"not corrected: {one_line(reason, 300)}")
    return "\n".join(lines)


def _value_and_limits(estimate: Mapping[str, Any]) -> tuple[str, str]:
    value = "-" if estimate["value"] is None else f"{estimate['value']:.3f}"
    if estimate["ci"] is None:
        return value, "-"
    low, high = estimate["ci"]
    return value, f"{low:.3f} to {high:.3f}"


def _estimate_row(name: str, estimate: Mapping[str, Any]) -> Sequence[str]:
    value, limits = _value_and_limits(estimate)
    reason = f" ({estimate['reason']})" if "reason" in estimate else ""
    return (name, value, limits, f"{estimate['n']}{reason}")
