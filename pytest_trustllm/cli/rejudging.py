"""Gates over saved records, as the run itself would have judged them; ``gate`` and ``merge`` share it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.errors import ResultsError, one_line

if TYPE_CHECKING:
    from pytest_trustllm.gates import Gate
    from pytest_trustllm.measured import Measured
    from pytest_trustllm.suites import Suite


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Let the user say by what a saved run is judged."""
    parser.add_argument(
        "--thresholds",
        metavar="PATH",
        type=Path,
        help="threshold file or directory (default: thresholds/ if it exists, else the shipped ones)",
    )
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="results of an earlier run")
    parser.add_argument("--any-model", action="store_true", help="the baseline may be a run of another model")
    parser.add_argument("--gate-tags", metavar="TAG,...", default="", help="as --trust-gate-tags")
    parser.add_argument("--show-content", action="store_true", help="as --trust-show-content")
    add_suites(parser)


def rejudge(
    args: argparse.Namespace, path: Path, results: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], int]:
    """Judge saved records, print the summary of the run, and return the results document and the exit status.

    Args:
        args: What :func:`add_judging` declares.
        path: Results file, for messages.
        results: The saved document; metrics, scores and gates are made again.
        records: Its records.
    """
    from pytest_trustllm.coverage import selection_from
    from pytest_trustllm.measured import Measured

    run = results["run"]
    suites = suites_of(args, [(path, results)])
    tasks = [t for s in suites for t in s.tasks]
    gates = _gates(args, results, suites)
    baseline = _baseline(args, results, tasks, gates)
    measured = Measured(
        tasks,
        records,
        selection_from(results["coverage"], tasks),
        seed=run["seed"],
        baseline=baseline,
        stopped=bool(run.get("stopped")),
    )
    carried = {g["id"] for g in results["gates"] if g.get("failed_before")}
    verdicts = [measured.judge(gate, failed_before=gate.id in carried) for gate in gates]
    found = measured.document(run, verdicts, results["usage"], results["samples"])
    problems = _tell(args, found, measured.reasons)
    broken = _broken(measured)
    if broken:
        problems.append(f"{broken}: the run itself failed")
    for problem in problems:
        say(f"ERROR: {problem}")
    return found, int(bool(problems) or any(v.failing for v in verdicts))


def _tell(args: argparse.Namespace, results: Mapping[str, Any], reasons: Sequence[tuple[str, str, int]]) -> list[str]:
    """Print the summary; in a workflow of GitHub, annotate the gates that did not pass, and summarise the step too.

    Returns:
        What could not be told.
    """
    from pytest_trustllm import masking
    from pytest_trustllm.report import github, text

    if not args.show_content:
        results, reasons = masking.concealed(results), [(t, masking.masked(why), n) for t, why, n in reasons]
    say(f"trust: {one_line(results['run']['model']['name'], 60)}")
    for line in text.summary(results, reasons):
        say(github.harmless(line) if github.is_here() else line)
    for command in github.commands(results, Path.cwd()) if github.is_here() else ():
        say(command)
    try:
        github.write_summary(results, reasons)
    except ResultsError as e:
        return [str(e)]
    return []


def _gates(args: argparse.Namespace, results: Mapping[str, Any], suites: Sequence[Suite]) -> list[Gate]:
    """Return the gates that the run would have had with these files."""
    from pytest_trustllm import thresholds

    sample = results["run"]["data"]["source"] == "sample"
    where = None if args.thresholds is None else Path.cwd() / args.thresholds
    files = thresholds.find_thresholds(where, suites, root=Path.cwd(), sample=sample)
    tags = thresholds.read_tags(args.gate_tags, {t for f in files for t in f.tags()}, "--gate-tags")
    chosen = thresholds.narrowed(suites, results["run"].get("suites", ()))
    return thresholds.chosen_gates(files, results["run"]["model"]["name"], tags, chosen)


def _baseline(args: argparse.Namespace, results: Mapping[str, Any], tasks: Any, gates: Sequence[Gate]) -> Any:
    if args.baseline is None:
        return None
    from pytest_trustllm import baseline as earlier

    found = earlier.read_baseline(Path.cwd() / args.baseline, "--baseline", Path.cwd())
    roles = {role: info["name"] for role, info in results["run"]["roles"].items()}
    setting = earlier.Setting(results["run"]["model"]["name"], roles)
    earlier.check(found, setting, gates, tasks, any_model=None if args.any_model else "--any-model")
    return found


def _broken(measured: Measured) -> str:
    """Return in words which samples failed as tests; empty if none did."""
    sums = {
        word: sum(measured.coverage[t.id][key] for t in measured.tasks if t.reads is None and t.id in measured.coverage)
        for key, word in (("errored", "raised an error"), ("lost", "never ran"))
    }
    return ", ".join(f"{count} samples {word}" for word, count in sums.items() if count)
