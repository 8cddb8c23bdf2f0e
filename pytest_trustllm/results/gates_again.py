"""Judge the gates of a saved run again: by its threshold files where they are there, and by its own entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.errors import TrustLLMError, one_line
from pytest_trustllm.formats import DecisionEntry, GateEntry, Results
from pytest_trustllm.gates import selection
from pytest_trustllm.gates.thresholds import Thresholds
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.results.coverage import left_out
from pytest_trustllm.results.document import tasks_of
from pytest_trustllm.results.gate_entries import contradiction, unchecked_because
from pytest_trustllm.results.measurement import Against, MeasuredRun
from pytest_trustllm.suites.task import Suite

_COMPARED = ("bound", "kind", "metric", "scoring", "confidence")
_UNKNOWN_DROP = "what it is a drop from is in its threshold file"


@dataclass(frozen=True, slots=True)
class GatesAgain:
    """What became of the verdicts of a saved run when its gates were judged again.

    Attributes:
        ids: Its gates, and those of its threshold files that it should have.
        wrong: Gate -> what is wrong with its verdict.
        unchecked: Gate -> why its verdict was not checked.
        by_files: Whether the threshold files are there as they were, so that a missing gate or another bound is seen.
        left_out: Gates that the run says its tags left out.
    """

    ids: Sequence[str]
    wrong: Mapping[str, str]
    unchecked: Mapping[str, str]
    by_files: bool
    left_out: int

    def text(self) -> str:
        """Return it in one line."""
        if self.wrong:
            shown = "; ".join(f"{one_line(id_, 100)}: {why}" for id_, why in list(self.wrong.items())[:3])
            more = f"; and {len(self.wrong) - 3} more" if len(self.wrong) > 3 else ""
            return f"{len(self.wrong)} of {len(self.ids)} verdicts do not follow from the numbers: {shown}{more}"
        parts = [f"{len(self.ids) - len(self.unchecked)} of {len(self.ids)} verdicts follow from the numbers"]
        if self.unchecked:
            reasons = "; ".join(dict.fromkeys(self.unchecked.values()))
            parts.append(f"{len(self.unchecked)} not checked ({reasons})")
        if not self.by_files:
            parts.append("bounds and missing gates not checked: the run's threshold files are not here as they were")
        if self.left_out:
            parts.append(f"{self.left_out} left out by tags")
        return "; ".join(parts)


def gates_of_run(results: Results, suites: Sequence[Suite], root: Path, where: Path | None = None) -> list[Gate] | None:
    """Return the gates that a saved run must have judged; None if its threshold files are not there as they were.

    Args:
        results: The saved run.
        suites: Those of the run.
        root: The project.
        where: Threshold file or directory; None: those that the project or the package has.
    """
    files = _files_as_recorded(results, suites, root, where)
    if files is None:
        return None
    chosen = selection.selected_tasks(suites, results["run"].get("suites", ()))
    chosen -= left_out(results, tasks_of(suites))
    return selection.gates_about(files, label_of(results), chosen)


def judged_again(
    results: Results, measured: MeasuredRun, gates: Sequence[Gate] | None, missing: Mapping[Against, str]
) -> GatesAgain:
    """Compare the verdicts of a saved run with those that its samples give.

    Args:
        results: The saved run.
        measured: Its numbers, computed again from its samples.
        gates: What :func:`gates_of_run` returned.
        missing: Which run that it was compared with is not there, and why.
    """
    wrong: dict[str, str] = {}
    unchecked: dict[str, str] = {}
    for entry in results["gates"]:
        why = contradiction(entry, results, measured.interval_of)
        if why is not None:
            wrong.setdefault(entry["id"], why)
        because = unchecked_because(entry, results)
        if because is None and entry["kind"] == "max_drop":
            because = missing.get("baseline", _UNKNOWN_DROP)
        if because is not None:
            unchecked[entry["id"]] = because
    deselected = set(results.get("unjudged", {}).get("gates", ()))
    ids = dict.fromkeys(entry["id"] for entry in results["gates"])
    if gates is not None:
        needed = [gate for gate in gates if gate.id not in deselected]
        for id_, why in _differences(results, measured, needed, unchecked, missing):
            wrong.setdefault(id_, why)
        ids.update(dict.fromkeys(gate.id for gate in needed))
    for id_ in wrong:
        unchecked.pop(id_, None)
    return GatesAgain(list(ids), wrong, unchecked, gates is not None, len(deselected))


def _differences(
    results: Results,
    measured: MeasuredRun,
    gates: Sequence[Gate],
    unchecked: dict[str, str],
    missing: Mapping[Against, str],
) -> Iterator[tuple[str, str]]:
    """Yield the gates that the run lacks, has too many, or judged otherwise than its threshold files say."""
    saved = {entry["id"]: entry for entry in results["gates"]}
    for gate in gates:
        entry = saved.get(gate.id)
        if entry is None:
            yield gate.id, "the threshold files have it, and the results do not"
            continue
        failed_before = bool(entry.get("failed_before"))
        again = measured.judge(gate, failed_before=failed_before).entry()
        for key in _COMPARED:
            if entry[key] != again[key]:  # type: ignore[literal-required]
                yield gate.id, f"its {key} is {entry[key]!r}, the threshold file says {again[key]!r}"  # type: ignore[literal-required]
        assisted = gate.id in unchecked and results.get("baseline") is not None
        if gate.kind == "max_drop" or assisted:
            against: Against = gate.against if gate.kind == "max_drop" else "baseline"
            if against in missing:
                unchecked[gate.id] = missing[against]
                continue
        unchecked.pop(gate.id, None)
        yield from _other_verdict(entry, again)
    for id_ in saved.keys() - {gate.id for gate in gates}:
        yield id_, "no threshold file of the run has it"


def _other_verdict(entry: GateEntry, again: GateEntry) -> Iterator[tuple[str, str]]:
    for key in ("outcome", "value", "warn"):
        if entry[key] != again[key]:
            yield entry["id"], f"its {key} is {entry[key]!r}, judged again {again[key]!r}"


def _files_as_recorded(
    results: Results, suites: Sequence[Suite], root: Path, where: Path | None
) -> list[Thresholds] | None:
    """Return the threshold files that have the digests that the run recorded; None if there are none."""
    recorded = results["run"].get("thresholds")
    if recorded is None:
        return None
    sample = results["run"]["data"].get("source") == "sample"
    for place in [where] if where is not None else _places(recorded, root):
        try:
            files = selection.find_thresholds(place, suites, root=root, sample=sample)
        except TrustLLMError:  # it is not there, or not as it was
            continue
        if selection.digests(files) == recorded:
            return files
    return None


def _places(recorded: Mapping[str, str], root: Path) -> list[Path | None]:
    """Return where the threshold files of a run may be: where they are by default, or where the run found them."""
    found = [root / name for name in recorded]
    directories = dict.fromkeys(path.parent for path in found)
    return [None, *found, *directories]


def label_of(results: Results) -> str:
    """Return the name that ``--trust-model`` gave the model: the app of a fixture may call itself something else."""
    model = results["run"]["model"]
    return model.get("label", model["name"])


def decisions_of(results: Results, gates: Sequence[Gate]) -> dict[str, DecisionEntry]:
    """Return how the run decided gates early, of those that are the same as then."""
    saved = {entry["id"]: entry for entry in results["gates"]}
    decisions: dict[str, DecisionEntry] = {}
    for gate in gates:
        entry = saved.get(gate.id)
        if entry is None or "early" not in entry:
            continue
        then = (entry["bound"], entry["scoring"], entry["confidence"], entry["early"]["min_scored"])
        if then == (gate.bound, gate.scoring, gate.confidence, gate.policy.min_scored):
            decisions[gate.id] = entry["early"]
    return decisions
