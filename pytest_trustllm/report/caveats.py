"""Caveats: what limits how far answers and verdicts can be trusted, one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import ModelInfo, PendingBatch, Results, UnansweredBatch
from pytest_trustllm.models.api.retrying import TRIES
from pytest_trustllm.report.formatting import counted, number
from pytest_trustllm.results.identity import roles_used
from pytest_trustllm.types import BLOCKED

_NAMED_TASKS = 3
_NAMED_BATCHES = 3
JUDGING = ("judge", "refusal", "guard", "toxicity")
"""Roles whose replies become verdicts."""


def left_out(results: Results) -> str:
    """Return what no gate decided, to be read after the verdict on the gates; empty if nothing was left out."""
    gates = results["gates"]
    notes = []
    unjudged = results.get("unjudged")
    if unjudged is not None:
        tasks = unjudged["tasks"]
        deselected = unjudged["gates"]
        if gates and tasks:
            have = "has" if len(tasks) == 1 else "have"
            notes.append(f"{len(tasks)} of {unjudged['of']} tasks {have} no gate")
        if deselected:
            notes.append(f"{counted(len(deselected), 'gate')} deselected")
        for name in unjudged.get("models", ()):
            notes.append(f"gates for {one_line(repr(name), 40)}, no model of this run")
        if unjudged.get("unwritten") is not None:
            notes.append(f"{one_line(unjudged['unwritten'], 40)} has no threshold file")
    if gates and all(gate.get("only_warns") for gate in gates):
        notes.append("every gate only warns")
    return "; ".join(notes)


def mixed(results: Results) -> list[str]:
    """Return one sentence per trust score that counts tasks of the project as well as shipped ones."""
    notes = []
    for dimension, score in results["scores"].items():
        own = score.get("own")
        if not own:
            continue
        names = [_task_name(metric) for metric in own[:_NAMED_TASKS]]
        if len(own) > _NAMED_TASKS:
            names.append(f"+{len(own) - _NAMED_TASKS}")
        tasks = ", ".join(names)
        notes.append(f"the score of {one_line(dimension, 30)} counts your own {tasks} too: it is not TrustLLM's")
    return notes


def _task_name(metric: str) -> str:
    """Return the task in a metric's id, ``dimension/task.metric``."""
    task = metric.partition("/")[2].rpartition(".")[0]
    return one_line(task, 40)


def sample_items(results: Results) -> str:
    """Return how the report introduces bundled sample items; empty if the run used none."""
    run = results["run"]
    if run["data"]["source"] != "sample":
        return ""
    bundled = run.get("bundled", {}).values()  # older results do not tell bundled items from the project's own
    if all(bundled):
        return "These are the bundled sample items:"
    if any(bundled):
        return "The tasks of TrustLLM use the bundled sample items:"
    return ""


_VERSION = re.compile(r"(?:[-@:_](?:preview|exp|latest|beta|free|v?\d{3,8}|\d{2,4}-\d{2}(?:-\d{2})?))+")
"""What providers append to a model's name without meaning another model: dates, stages."""


def stopped_early(results: Results) -> list[str]:
    """Return how many samples were asked, and which gates needed all of theirs; empty if every sample was asked."""
    stop = results["run"].get("stop")
    if stop is None or not stop["planned"]:
        return []
    share = 100 * stop["asked"] / stop["planned"]
    rule = "exact" if stop["alpha"] is None else f"alpha {stop['alpha']:g}"
    asked = f"asked {stop['asked']:,} of {stop['planned']:,} samples ({share:.0f} %)"
    notes = [f"{asked}: {stop['decided']} of {stop['gates']} gates decided early ({rule})"]
    if stop["whole"]:
        names = [one_line(id_.rpartition("::")[2], 60) for id_ in list(stop["whole"])[:_NAMED_TASKS]]
        if len(stop["whole"]) > _NAMED_TASKS:
            names.append(f"+{len(stop['whole']) - _NAMED_TASKS}")
        notes.append(f"asked whole, because nothing decides them early: {', '.join(names)}")
    return notes


def of(results: Results) -> list[str]:
    """Return all caveats about the answers of a run."""
    notes = []
    for note in (judge_votes(results), near_ties(results)):
        if note is not None:
            notes.append(note)
    own = [*judges_itself(results), *stopped_early(results), *notes, *corrected(results), *batches(results)]
    own += without_value(results)
    return [*own, *blocked(results), *other_models(results), *adapted(results), *unasked(results)]


def without_value(results: Results) -> Iterator[str]:
    """Yield the metrics that could not be computed from scores that are there, without those of single groups."""
    for id_, metric in results["metrics"].items():
        problem = metric.get("problem")
        if problem is not None and "{" not in id_:
            yield f"{one_line(id_, 80)} has no value: {one_line(problem, 300)}"


def agreement_with_people(results: Results, role: str) -> str:
    """Return how well a judge or classifier agreed with labels by people; empty if that was not checked."""
    parts = []
    for check in results["run"].get("judge_checks", ()):
        if check["role"] == role:
            kappa = number(check["kappa"]["value"])
            parts.append(f"kappa {kappa} on {check['compared']:,} labelled answers")
    return ", ".join(parts)


def judges_itself(results: Results) -> Iterator[str]:
    """Yield who judges answers of its own: models tend to rate their own answers higher."""
    model = results["run"]["model"]
    for role, judge in roles_used(results).items():
        same_provider = judge.get("provider") == model.get("provider")
        if role in JUDGING and same_provider and is_same(_id(judge), _id(model)):
            yield f"{role}: the tested model judges its own answers"


def _id(model: ModelInfo) -> str:
    return str(model.get("id") or model["name"])


def corrected(results: Results) -> Iterator[str]:
    """Yield the rates without the mistakes of who counted them; those of single groups are in the results file."""
    for id_, metric in results["metrics"].items():
        entry = metric.get("judge_corrected")
        if entry is None or "{" in id_:
            continue
        name = one_line(id_.partition("/")[2], 60)
        if entry["value"] is None:
            yield f"not corrected: {name}: {one_line(entry.get('reason', ''), 300)}"
            continue
        limits = ""
        if entry["ci"] is not None:
            low, high = entry["ci"]
            limits = f" ({low:.3f} to {high:.3f})"
        labels = entry.get("labels")
        how = entry.get("labels_unused", "labels on other responses")
        if labels is not None:
            how = counted(labels, "label")
        value = "-" if metric["value"] is None else f"{metric['value']:.3f}"
        yield f"corrected for its judge: {name} {value} -> {entry['value']:.3f}{limits}, {how}"


def batches(results: Results) -> Iterator[str]:
    """Yield what the run left in batches, and what was sent although it is in one."""
    entry = results["run"].get("batches")
    if entry is None:
        return
    pending = entry["pending"]
    if pending:
        count = counted(sum(batch["requests"] for batch in pending), "request")
        yield f"PENDING: {count} {_in_batches(pending)}; run again later, or with --trust-batch=wait"
    direct = entry["asked_directly"]
    if direct:
        count = counted(sum(batch["requests"] for batch in direct), "request")
        yield f"sent directly, and so charged twice: {count} {_in_batches(direct)}; --trust-batch=wait waits for them"
    for batch in entry.get("unanswered", ()):
        yield _unanswered(batch)


def _unanswered(batch: UnansweredBatch) -> str:
    """Return what became of the requests that a batch did not answer."""
    role = "" if batch["role"] is None else f" ({batch['role']})"
    line = (
        f"{one_line(batch['id'], 60)}{role} answered {batch['answered']:,} of {counted(batch['requests'], 'request')} "
        f"({one_line(batch['reason'], 160)})"
    )
    if not batch["again"]:
        return line
    others = "" if batch["again"] == batch["requests"] - batch["answered"] else f"{batch['again']:,} of the others "
    return f"{line}; {others}submitted again, try {batch['attempt']} of {TRIES}"


def _in_batches(batches: Sequence[PendingBatch]) -> str:
    """Return in which batches requests are, each batch once."""
    shown: list[str] = []
    for batch in batches:
        if batch["id"] is None:
            continue
        role = "" if batch["role"] is None else f" ({batch['role']})"
        shown.append(f"{one_line(batch['id'], 60)}{role}")
    names = list(dict.fromkeys(shown))
    if not names:
        return "not submitted yet"
    if len(names) > _NAMED_BATCHES:
        names[_NAMED_BATCHES:] = [f"+{len(names) - _NAMED_BATCHES} batches"]
    return f"in {', '.join(names)}"


def blocked(results: Results) -> Iterator[str]:
    """Yield how many samples the provider's filter blocked, and what they count as."""
    total = 0
    tasks = []
    for task, entry in results["coverage"].items():
        count = entry.get("blocked")
        if count:
            total += count
            tasks.append(f"{one_line(task.partition('/')[2], 40)} {count:,}")
    if not total:
        return
    if results["run"].get("blocked") == "unscored":
        meaning = "unscored, as set by --trust-blocked"
    else:
        meaning = "a refusal where refusals are scored, else unscored (--trust-blocked)"
    yield f"{BLOCKED}: {total:,} samples ({', '.join(tasks)}); {meaning}"


def other_models(results: Results) -> Iterator[str]:
    """Yield which models answered in place of those requested, as far as servers report it."""
    for role, model in _models(results):
        answered: dict[str, int] = model.get("about", {}).get("answered_by", {})
        requested = model.get("id")
        total = sum(answered.values())
        others = {name: count for name, count in answered.items() if not is_same(str(requested), name)}
        for name, count in others.items():
            shown = f"{one_line(name, 60)} answered ({count:,} of {total:,})"
            yield f"{role}: {one_line(requested, 60)} was requested, but {shown}"
        if len(answered) > 1 and not others:
            versions = ", ".join(f"{one_line(name, 40)} ({count:,})" for name, count in answered.items())
            yield f"{role}: several versions answered: {versions}"


def adapted(results: Results) -> Iterator[str]:
    """Yield what was left out of requests because a model rejects it."""
    for role, model in _models(results):
        for line in model.get("about", {}).get("adapted", ()):
            yield f"{role}: {one_line(line, 400)}"


def unasked(results: Results) -> Iterator[str]:
    """Yield whose server sends replies that nobody asked for, which may pass for the answer to the next prompt."""
    for role, model in _models(results):
        count = model.get("about", {}).get("unasked_replies", 0)
        if count:
            sent = f"something that nobody had asked for came from the server over {counted(count, 'connection')}"
            yield f"{role}: {sent}; look for a broken proxy, then run with --trust-fresh"


def is_same(requested: str, answered: str) -> bool:
    """Return whether two names mean one model: folders, case, dates and stages make no difference."""
    short, long = sorted((_bare(requested), _bare(answered)), key=len)
    if long == short:
        return True
    if not long.startswith(short):
        return False
    return _VERSION.fullmatch(long, len(short)) is not None


def _bare(name: str) -> str:
    """Return a model's name without its folder and without the tag that names no version."""
    last_part = name.lower().rstrip("/").rpartition("/")[2]
    return last_part.removesuffix("-latest").removesuffix(":latest")


def _models(results: Results) -> Iterator[tuple[str, ModelInfo]]:
    """Yield the model under test, and those of the roles by role."""
    yield "model", results["run"]["model"]
    yield from results["run"]["roles"].items()


def judge_votes(results: Results) -> str | None:
    """Return how far the judge agreed with itself; None if no sample was put to a vote."""
    judging = results.get("judging")
    if judging is None:
        return None
    agreement = judging["agreement"]
    unanimous = judging["unanimous"]
    if agreement is None or unanimous is None:
        return None
    return (
        f"judge: {judging['votes']} votes a verdict; {agreement:.1%} agree, "
        f"unanimous for {unanimous:.1%} of {judging['samples']:,} samples"
    )


def near_ties(results: Results) -> str | None:
    """Return how many answers might differ in another batch; None if the model computes exactly enough."""
    if results["run"]["model"].get("about", {}).get("batch_effects") is None:
        return None
    usage = results["usage"]
    ties = usage.get("near_ties", 0)
    answers = usage["requests"] + usage["cached"]
    return f"reduced precision: batch effects possible; near-ties in {ties:,} of {answers:,} answers"
