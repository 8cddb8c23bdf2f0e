"""``pytest-trustllm export`` and ``badge``: a saved run for other programs and for a README."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_trustllm.cli.arguments import address, count
from pytest_trustllm.cli.output import say, warn
from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import ResultsError, one_line
from pytest_trustllm.formats import Results

_RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
"""Those of Every Eval Ever; a test compares them, since its module is imported only when it is needed."""
_VALID_DAYS = 90
_MOST_DAYS = 36_500
"""A statement that outlives everybody says nothing, and dates end with the year 9999."""


def add(commands: Any) -> None:
    """Declare the commands."""
    export = commands.add_parser("export", help="write a saved run for other programs", allow_abbrev=False)
    export.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    export.add_argument("--format", choices=tuple(_FORMATS), help="default: csv or parquet, by the ending of -o")
    export.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        required=True,
        help="the file to write; for 'inspect', a directory; for 'hf' and 'lm-eval', either",
    )
    export.add_argument("--url", metavar="URL", type=address, help="where the run can be looked at (in-toto, hf)")
    export.add_argument(
        "--valid-days",
        metavar="N",
        type=_days,
        default=_VALID_DAYS,
        help="days from the run's start that an in-toto statement is valid",
    )
    export.add_argument("--organization", metavar="NAME", default="unknown", help="who ran the evaluation (eee)")
    export.add_argument(
        "--relationship",
        choices=_RELATIONSHIPS,
        default="other",
        help="of it to the model's maker (eee)",
    )
    export.set_defaults(run=run_export)

    badge = commands.add_parser("badge", help="write SVG badges of a saved run", allow_abbrev=False)
    badge.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    badge.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the directory to write to")
    badge.set_defaults(run=run_badge)


def _days(text: str) -> int:
    days = count(text)
    if days > _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_DAYS} days, found {text!r}")
    return days


def run_export(args: argparse.Namespace) -> int:
    """Write the run in one format."""
    from pytest_trustllm.results.document import keep_apart
    from pytest_trustllm.results.files import read_results, run_files

    format_ = _format(args)
    results = read_results(args.results)
    keep_apart([("-o", args.output)], run_files(results, args.results))
    _FORMATS[format_].write(args, results)
    say(f"{format_}: {args.output}")
    return 0


def _format(args: argparse.Namespace) -> str:
    """Return the format that is asked for, by name or by the ending of the output.

    Raises:
        ResultsError: The ending tells none, or another one than the name.
    """
    ending = args.output.suffix.lower()
    by_ending = {format_.ending: name for name, format_ in _FORMATS.items() if format_.ending}
    if args.format is None:
        if ending not in by_ending:
            named = ", ".join(_FORMATS)
            raise ResultsError(
                f"-o: {one_line(str(args.output), 200)} does not tell the format, as .csv and .parquet do; "
                f"give --format ({named})"
            )
        return by_ending[ending]
    chosen: str = args.format
    if by_ending.get(ending, chosen) != chosen:
        raise ResultsError(
            f"-o: {one_line(str(args.output), 200)} ends like a file of --format={by_ending[ending]}, "
            f"but --format={chosen} is given; change one of them"
        )
    return chosen


# --- one function per format ------------------------------------------------------------------------------------------


def _csv(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export import table
    from pytest_trustllm.results.files import samples_of

    write_whole(args.output, table.csv_lines(samples_of(results, args.results)), "-o")


def _parquet(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.report.export import table
    from pytest_trustllm.results.files import samples_of

    table.write_parquet(args.output, samples_of(results, args.results))


def _inspect(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export import inspect_log
    from pytest_trustllm.results.files import samples_of

    for name, log in inspect_log.logs(results, samples_of(results, args.results)):
        write_whole(args.output / name, [log], "-o")


def _in_toto(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.report.export import in_toto

    window = in_toto.window_of(results, args.valid_days)
    _write_json(args.output, in_toto.statement(results, args.results, window, args.url))
    if window.not_after < datetime.now(UTC):
        warn(
            f"-o: {args.output} has expired already: the run started at {results['run']['started']}, and --valid-days "
            f"{args.valid_days} counts from there; run again"
        )


def _cyclonedx(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.report.export import cyclonedx

    _write_json(args.output, cyclonedx.document(results))


def _eee(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.report.export import every_eval

    evaluator = every_eval.Evaluator(args.organization, args.relationship)
    _write_json(args.output, every_eval.document(results, evaluator))


def _lm_eval(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.report.export import lm_eval

    path = args.output
    if path.suffix != ".json":  # a directory, as for lm-eval itself
        path = path / lm_eval.file_name(results)
    _write_json(path, lm_eval.document(results))


def _hf(args: argparse.Namespace, results: Results) -> None:
    """Write ``.eval_results`` (.yaml), a model card (.md), or both into a model's directory."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export import hub

    output: Path = args.output
    if output.suffix == ".md":
        _write_card(output, results, args.url)
    elif output.suffix in (".yaml", ".yml"):
        write_whole(output, [_yaml(hub.eval_results(results, args.url))], "-o")
    else:
        _write_card(output / "README.md", results, args.url)
        write_whole(output / hub.EVAL_RESULTS, [_yaml(hub.eval_results(results, args.url))], "-o")


def _write_card(path: Path, results: Results, url: str | None) -> None:
    """Write a model card with ``model-index`` in its head.

    Raises:
        ResultsError: There is a card: what its author wrote is not overwritten.
    """
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report import card
    from pytest_trustllm.report.export import hub

    if exists(path):
        raise ResultsError(
            f"-o: {path} exists and is not overwritten; write to another file, and copy 'model-index' into its head"
        )
    head = _yaml({"model-index": hub.model_index(results, url)})
    write_whole(path, [f"---\n{head}---\n\n", card.section(results)], "-o")


def _yaml(value: object) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=120)
    return text


def _write_json(path: Path, document: object) -> None:
    from pytest_trustllm.config.files import write_whole

    write_whole(path, [json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"], "-o")


@dataclass(frozen=True, slots=True)
class _Format:
    """How a run is written.

    Attributes:
        write: Takes the arguments of the command and the results document.
        ending: What a file's name ends in if it cannot be of another format.
    """

    write: Callable[[argparse.Namespace, Results], None]
    ending: str | None = None


_FORMATS = {
    "csv": _Format(_csv, ".csv"),
    "parquet": _Format(_parquet, ".parquet"),
    "inspect": _Format(_inspect),
    "in-toto": _Format(_in_toto),
    "cyclonedx": _Format(_cyclonedx),
    "eee": _Format(_eee),
    "hf": _Format(_hf),
    "lm-eval": _Format(_lm_eval),
}


# --- badges -----------------------------------------------------------------------------------------------------------


def run_badge(args: argparse.Namespace) -> int:
    """Write the badges."""
    from pytest_trustllm.config.files import write_whole
    from pytest_trustllm.report.export.badge import badges
    from pytest_trustllm.results.files import read_results

    results = read_results(args.results)
    for name, svg in badges(results).items():
        write_whole(args.output / name, [svg], "-o", public=True)
        say(f"badge: {args.output / name}")
    return 0
