"""``pytest-trustllm label``: people label responses of a run, so that the judge's mistakes can be corrected."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_trustllm.cli.arguments import count
from pytest_trustllm.cli.output import say
from pytest_trustllm.cli.suites import add_suites, suites_of
from pytest_trustllm.config.paths import exists
from pytest_trustllm.errors import ResultsError, one_line, suggest

if TYPE_CHECKING:
    from pytest_trustllm.formats import Results
    from pytest_trustllm.labelling.session import LabelSession
    from pytest_trustllm.results.label_draw import DrawnUnit, JudgedUnit
    from pytest_trustllm.results.label_file import NumberedLine, UnitKey
    from pytest_trustllm.suites.task import Suite, Task

OUTPUT = Path("labels.jsonl")
RESPONSES = 100


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "label",
        help="label responses of a run by hand, to correct its judge",
        description="Draw responses of a run, show them one by one, and write your labels to a file for judge-check. "
        "The judge's verdicts are not shown. The same command continues where the last one ended.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what --trust-results wrote")
    parser.add_argument("--task", metavar="DIMENSION/TASK", required=True, help="whose responses to label")
    parser.add_argument("-n", "--number", metavar="N", type=count, help=f"responses to draw (default: {RESPONSES})")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        type=Path,
        default=OUTPUT,
        help=f"labels are appended here (default: {OUTPUT})",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="which responses are drawn (default: 0)")
    parser.add_argument("--page", action="store_true", help="label in a browser on this machine, not in the terminal")
    parser.add_argument("--port", metavar="N", type=_port, default=0, help="port of the page (default: any free one)")
    parser.add_argument("--data", metavar="sample|full|PATH", type=Path, help="data of the run, if they were moved")
    add_suites(parser)
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port, at most 65535, found {text!r}")
    return number


def run(args: argparse.Namespace) -> int:
    """Draw, have people label, and tell what is left; status 1 if something is."""
    from pytest_trustllm.labelling.session import LabelSession
    from pytest_trustllm.results.files import read_results
    from pytest_trustllm.results.label_draw import draw, frame_digest
    from pytest_trustllm.results.label_file import LabelWriter, last_labels

    results = read_results(args.results)
    task = _task(args.task, suites_of(args, [(args.results, results)]))
    _keep_apart(args, results)
    units = _units(args.results, results, task)
    frame = frame_digest(units)
    drawn = draw(units, args.number or RESPONSES, f"{args.seed}/{task.id}")
    earlier = _earlier_lines(args, task, frame, drawn)
    prepared = _prepared(args, results, task, drawn, frame)
    given: dict[UnitKey, str | None] = {key: line.line["label"] for key, line in last_labels(earlier).items()}
    writer = LabelWriter(args.output)
    try:
        for line in prepared.by_rule:
            if (line["drawn"]["id"], line["drawn"]["epoch"]) not in given:
                writer.append(line)
        session = LabelSession(task.title, prepared.items, task.scorer.vocabulary.labels, given, writer)
        say(f"{task.id}: {len(drawn)} of {len(units)} responses drawn, {session.done} of {len(session.items)} labelled")
        if args.number is not None and args.number > len(units):
            say(f"-n {args.number}: the run has only {len(units)} responses with a verdict; all of them are drawn")
        _label(args, session)
    finally:
        writer.close()
    left = len(session.items) - session.done
    say(f"labels: {args.output} ({session.done} of {len(session.items)})")
    if left:
        say(f"{left} left; the same command continues")
        return 1
    say(f"next: pytest-trustllm judge-check --results {args.results} {args.output} --json")
    return 0


def _label(args: argparse.Namespace, session: LabelSession) -> None:
    """Have people label, until everything is labelled or they stop."""
    from pytest_trustllm.labelling.server import LabelServer
    from pytest_trustllm.labelling.terminal import label_in_terminal

    if session.next_open() is None:
        return
    try:
        if args.page:
            server = LabelServer(session, args.port)
            say(f"open {server.address}")
            say("the address is a password: who knows it can read the responses; Ctrl-C ends")
            sys.stdout.flush()
            server.run()
        else:
            label_in_terminal(session, _say_at_once, sys.stdin)
    except KeyboardInterrupt:  # every label is in the file
        say()


def _say_at_once(text: str) -> None:
    say(text)
    sys.stdout.flush()


# --- what to label ----------------------------------------------------------------------------------------------------


def _task(name: str, suites: Sequence[Suite]) -> Task:
    """Return the task by its id, or by its name if that is unique.

    Raises:
        ResultsError: There is none, its scores are not all verdicts of one judge, or its samples are conversations.
    """
    from pytest_trustllm.suites.verdict_rates import is_verdict_rate

    tasks: list[Task] = []
    for suite in suites:
        for task in suite.tasks:
            if any(is_verdict_rate(task, spec) for spec in task.metrics):
                tasks.append(task)
    matching = [task for task in tasks if name in (task.id, task.name)]
    if len(matching) == 1:
        (task,) = matching
        if task.talk is not None:
            raise ResultsError(
                f"label: {task.id} has conversations, and this command shows single responses only; write labels of "
                "its responses into a file of your own, and give that to judge-check"
            )
        return task
    known = [task.id if "/" in name or matching else task.name for task in tasks]
    what = "is the name of several tasks" if matching else "is not a task whose rate is a share of a judge's verdicts"
    raise ResultsError(f"label: --task: {one_line(repr(name), 80)} {what}{suggest(name, known)}")


def _units(path: Path, results: Results, task: Task) -> list[JudgedUnit]:
    from pytest_trustllm.metrics.observations import observed_by_task
    from pytest_trustllm.results.files import records_of
    from pytest_trustllm.results.label_draw import judged_units

    records = [record for record in records_of(results, path) if record["task"] == task.id]
    units = judged_units(observed_by_task(records).get(task.id, ()))
    if not units:
        raise ResultsError(f"{path}: no response to {task.id} has a verdict")
    return units


def _keep_apart(args: argparse.Namespace, results: Results) -> None:
    from pytest_trustllm.results.document import NamedFile, keep_apart

    inputs: list[NamedFile] = [("the results file", args.results)]
    if results["samples"] is not None:
        inputs.append(("the samples file", args.results.with_name(results["samples"])))
    keep_apart([("-o", args.output)], inputs)


def _earlier_lines(
    args: argparse.Namespace, task: Task, frame: str, drawn: Sequence[DrawnUnit]
) -> Sequence[NumberedLine]:
    """Return the lines of an earlier session; their chances are those of this draw, which may have drawn more.

    Raises:
        ResultsError: The file is not one of labels, or the labels are about other responses.
    """
    from pytest_trustllm.results.label_file import read_label_file, write_chances

    if not exists(args.output):
        return []
    lines = read_label_file(args.output)
    chances: Mapping[UnitKey, float] = {one.unit.key: one.chance for one in drawn}
    for numbered in lines:
        source = numbered.line["drawn"]
        where = f"{args.output}:{numbered.number}"
        if source["task"] != task.id:
            raise ResultsError(f"{where}: is a response to {one_line(source['task'], 60)}, not to {task.id}")
        if source["frame"] != frame:
            raise ResultsError(f"{where}: was drawn from other responses or verdicts; name another file with -o")
        if (source["id"], source["epoch"]) not in chances:
            raise ResultsError(
                f"{where}: was drawn with another --seed, or a greater -n; give the same, or another file with -o"
            )
    if any(line.line["drawn"]["chance"] != chances[_key(line)] for line in lines):
        write_chances(args.output, lines, chances)
    return lines


def _key(line: NumberedLine) -> UnitKey:
    return line.line["drawn"]["id"], line.line["drawn"]["epoch"]


def _prepared(args: argparse.Namespace, results: Results, task: Task, drawn: Sequence[DrawnUnit], frame: str) -> Any:
    from pytest_trustllm.labelling.items import prepare, samples_of_task
    from pytest_trustllm.results.files import samples_of

    samples = {}
    if "judge" in task.scorer.roles:
        ids = [one.unit.id for one in drawn]
        samples = samples_of_task(results, task, ids, args.data, Path.cwd())
    return prepare(results, samples_of(results, args.results), task, drawn, frame, samples)
