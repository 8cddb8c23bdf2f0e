"""``judge-check --results``: the verdicts that a run has against people's labels on its responses."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.engine import judge_check
from pytest_trustllm.errors import ResultsError
from pytest_trustllm.formats import JudgeCheckEntry, Record, Results
from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.results.files import records_of, samples_of
from pytest_trustllm.results.judge_check_file import RunFacts, kept_part
from pytest_trustllm.results.judge_correction import Corrections, ResponseKey, response_hashes
from pytest_trustllm.results.label_check import ComparedLabels, compare_labels, labelled_task
from pytest_trustllm.stats.agreement import weighted_agreement
from pytest_trustllm.suites.definitions import DRAWN_FROM, some_hashes
from pytest_trustllm.suites.task import Task
from pytest_trustllm.suites.verdict_rates import counted_label
from pytest_trustllm.types import Selection


def check_run(args: argparse.Namespace, results: Results, tasks: Sequence[Task]) -> dict[str, Any]:
    """Return the check, with the rates of the run as people would count them.

    Args:
        args: With ``results``, ``labels`` and ``confidence``.
        results: Of the run.
        tasks: All tasks.

    Raises:
        ResultsError: The labels are not about the responses and verdicts of the run, or none of them counts.
    """
    task, lines = labelled_task(args.labels, tasks)
    records = [record for record in records_of(results, args.results) if record["task"] == task.id]
    texts = samples_of(results, args.results)
    compared = compare_labels(args.labels, lines, task, results, records, texts, Path.cwd())
    if not compared.pairs:
        counts = f"{compared.drawn['undecided']} cannot be said, {compared.by_rule} were decided by a rule"
        raise ResultsError(f"{args.labels}: no response has a label that counts: of {compared.rows}, {counts}")
    document = _document(args, results, task, compared)
    checks = [kept_part(document)]
    hashes = response_hashes(checks, samples_of(results, args.results))
    document["corrected"] = _corrected_rates(results, task, records, checks, hashes)
    return document


def _document(args: argparse.Namespace, results: Results, task: Task, compared: ComparedLabels) -> dict[str, Any]:
    role = task.scorer.roles[0]
    model = results["run"]["roles"].get(role)
    if model is None:
        raise ResultsError(f"{args.results}: records no model in the role {role}")
    vocabulary = task.scorer.vocabulary
    positive = counted_label(task)
    assert positive is not None  # noqa: S101 - only such tasks are labelled
    checked = judge_check.Checked(
        subject=judge_check.Subject(role, task, vocabulary),
        name=model["name"],
        info=model,
        rows=compared.rows,
        by_rule=compared.by_rule,
        unread={},
        different=compared.different,
        agreement=weighted_agreement(compared.pairs, vocabulary.labels, positive, args.confidence),
        votes=results["run"].get("judge_votes", 1) if role == "judge" else 1,
    )
    document = judge_check.document(checked, args.labels.name, compared.sha256)
    document["task"] = {"id": task.id, "version": task.version}
    document["definition"] = some_hashes(task, DRAWN_FROM)
    document["drawn"] = compared.drawn
    return document


def _corrected_rates(
    results: Results,
    task: Task,
    records: Sequence[Record],
    checks: Sequence[JudgeCheckEntry],
    hashes: Mapping[ResponseKey, str],
) -> dict[str, Any]:
    """Return metric -> its value in the run and the corrected one."""
    samples = observed_by_task(records)
    counts = {task.id: len(samples[task.id])}
    numbers = RunNumbers([task], samples, Selection(counts, counts))
    facts = RunFacts.after(results["run"], [task], Path.cwd())
    corrections = Corrections(checks, facts, samples, numbers.metrics, numbers.metric_input, hashes)
    rates: dict[str, Any] = {}
    for id_, corrected in corrections.entries().items():
        rates[id_] = {"observed": numbers.metrics[id_].value, **corrected}
    return rates
