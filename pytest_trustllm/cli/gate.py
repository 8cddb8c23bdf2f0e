"""``pytest-trustllm gate``: the gates of a saved run, judged again without a model."""

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


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate", help="judge a saved run by threshold files, or propose some", allow_abbrev=False
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument(
        "--thresholds",
        metavar="PATH",
        type=Path,
        help="threshold file or directory (default: thresholds/ if it exists, else the shipped ones)",
    )
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="results of an earlier run")
    parser.add_argument("--any-model", action="store_true", help="the baseline may be a run of another model")
    parser.add_argument("--gate-tags", metavar="TAG,...", default="", help="as --trust-gate-tags")
    parser.add_argument(
        "--propose", action="store_true", help="judge nothing; write threshold files that this run passes"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="where --propose writes (default: thresholds/)"
    )
    add_suites(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, or propose."""
    from pytest_trustllm.saved import read_results

    if args.output is not None and not args.propose:
        raise ResultsError("-o: only --propose writes files")
    results = read_results(args.results)
    try:
        if args.propose:
            from pytest_trustllm.cli.propose import propose

            return propose(results, args.output or Path("thresholds"), args.results)
        return _judge(args, results)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ResultsError(f"{args.results}: not a complete results file: {type(e).__name__}: {one_line(e)}") from None


def _judge(args: argparse.Namespace, results: Mapping[str, Any]) -> int:
    from pytest_trustllm.coverage import reasons_of, selection_from
    from pytest_trustllm.measured import Measured
    from pytest_trustllm.report import text
    from pytest_trustllm.results import document
    from pytest_trustllm.saved import records_of

    run = results["run"]
    model = run["model"]["name"]
    suites = suites_of(args, [(args.results, results)])
    tasks = [t for s in suites for t in s.tasks]
    gates = _gates(args, results, suites)
    baseline = _baseline(args, results, tasks, gates)
    records = records_of(results, args.results)
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
    found = document(
        run, measured.metrics, measured.scores, [v.entry() for v in verdicts], results["usage"], results["samples"]
    )
    found.update(coverage=measured.coverage, baseline=measured.compared(run))
    say(f"trust: {one_line(model, 60)}")
    for line in text.summary(found, reasons_of(records)):
        say(line)
    broken = _broken(measured)
    if broken:
        say(f"ERROR: {broken}: the run itself failed")
    return int(bool(broken) or any(v.failing for v in verdicts))


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
