"""Which threshold files and which of their gates a run is judged by: files, models, tags."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_trustllm.config import paths
from pytest_trustllm.config.documents import misnamed
from pytest_trustllm.config.paths import is_directory, is_file
from pytest_trustllm.errors import GateError, one_line, suggest
from pytest_trustllm.gates.thresholds import Thresholds, read_thresholds
from pytest_trustllm.gates.verdict import Gate
from pytest_trustllm.suites.task import Suite


def threshold_files(where: Path, *, sample: bool, option: str) -> list[Path]:
    """Return the threshold files of a file or directory.

    Args:
        where: A file or directory.
        sample: Sample data has thresholds of its own, in ``sample/`` where that exists.
        option: Name of the setting in messages.

    Raises:
        GateError: There is no such file or directory, or it contains no YAML file.
    """
    if is_file(where):
        return [where]
    if not is_directory(where):
        raise GateError(f"{option}: {where} does not exist")
    directory = where
    if sample and is_directory(where / "sample"):
        directory = where / "sample"
    # passed over in silence, a file that ends in .yml would disarm the build
    entries = paths.entries(directory, f"{option}: {directory}", GateError)
    for path in entries:
        if misnamed(path):
            raise GateError(f"{option}: {path}: a threshold file ends in .yaml; rename it, or move it away")
    files = [path for path in entries if path.suffix == ".yaml"]
    if not files:
        raise GateError(f"{option}: {directory} contains no .yaml file")
    return files


def is_unwritten(directory: Path) -> bool:
    """Return whether a directory of threshold files holds none yet, nor anything that may be meant as one."""
    if not is_directory(directory):
        return False
    entries = paths.entries(directory, str(directory), GateError)
    return not any(path.suffix == ".yaml" or path.name == "sample" or misnamed(path) for path in entries)


def find_thresholds(
    where: Path | None, suites: Sequence[Suite], *, root: Path, sample: bool, option: str = "--trust-thresholds"
) -> list[Thresholds]:
    """Read all threshold files of a run.

    Args:
        where: A file or directory; None: ``thresholds/`` under the root if it exists, which may be empty, else the
            shipped ones. To these come those of installed packages of suites, except files that the project has under
            the same name.
        suites: The run's suites. Shipped thresholds are about shipped suites alone.
        root: The project.
        sample: The run uses the bundled sample items.
        option: Name of the setting in messages.

    Raises:
        GateError: The first mistake in a file, or a file without any gate.
    """
    project = root / "thresholds"
    if where is not None:  # the files that the user names are all that count
        files = _project_thresholds(where, suites, root=root, sample=sample, option=option)
    elif is_directory(project):
        files = []
        if not is_unwritten(project):
            files = _project_thresholds(project, suites, root=root, sample=sample, option=option)
        files += _packaged_thresholds(suites, sample=sample, replaced={file.path.name for file in files})
    else:
        files = _shipped_thresholds(suites, root=root, sample=sample, option=option)
        files += _packaged_thresholds(suites, sample=sample, replaced=())
    for file in files:
        if not file.has_gates:
            raise GateError(f"{file.file}: defines no gate, nor does a file that it extends; write some under 'gates:'")
    return files


def _project_thresholds(
    where: Path, suites: Sequence[Suite], *, root: Path, sample: bool, option: str
) -> list[Thresholds]:
    paths_ = threshold_files(where, sample=sample, option=option)
    return [read_thresholds(path, suites, root=root, sample=sample) for path in paths_]


def _shipped_thresholds(suites: Sequence[Suite], *, root: Path, sample: bool, option: str) -> list[Thresholds]:
    """Read the shipped threshold files of the run's shipped suites.

    A project's suite may have the name of a shipped one. It replaces that, and the shipped gates are not about its
    tasks.
    """
    shipped = {suite.name for suite in suites if suite.builtin}
    if not shipped:
        return []
    files: list[Thresholds] = []
    for path in threshold_files(paths.shipped("thresholds"), sample=sample, option=option):
        if path.stem in shipped:
            files.append(read_thresholds(path, suites, root=root, builtin=True, sample=sample))
    return files


def _packaged_thresholds(suites: Sequence[Suite], *, sample: bool, replaced: Collection[str]) -> list[Thresholds]:
    """Read the threshold files of the installed packages whose suites are in the run.

    Args:
        suites: The run's suites.
        sample: The run uses the bundled sample items.
        replaced: Names of files that the project has its own version of.

    Raises:
        GateError: The first mistake in one of them.
    """
    packages = {suite.package.name: suite.package for suite in suites if suite.package is not None}
    files: list[Thresholds] = []
    for package in packages.values():
        if package.thresholds is None:
            continue
        for path in threshold_files(package.thresholds, sample=sample, option=f"suite package {package.name!r}"):
            if path.name not in replaced:
                files.append(read_thresholds(path, suites, package=package.name, sample=sample))
    return files


def digests(files: Iterable[Thresholds]) -> dict[str, str]:
    """Return the SHA-256 of threshold files and of those that they extend, by name."""
    sums: dict[str, str] = {}
    for file in files:
        sums.update(file.digests())
    return sums


def check_models(files: Sequence[Thresholds], labels: Collection[str], unknown: Callable[[str], str | None]) -> None:
    """Look for gates that no run could ever judge, and for a run that has none.

    Args:
        files: Threshold files of the run.
        labels: Its models, as ``--trust-model`` names them.
        unknown: Returns why a name is not that of a model; None if it is.

    Raises:
        GateError: A name under ``models:`` is not that of a model, or the files have gates for other models only.
    """
    named: dict[str, str] = {}
    for file in files:
        named.update(file.model_names())
    for name, file_name in named.items():
        if name in labels:
            continue
        problem = unknown(name)
        if problem is not None:
            raise GateError(f"{file_name}: {problem}")
    if files and not _gates(files, labels):
        names = ", ".join(file.file for file in files)
        hint = suggest(next(iter(labels)), named)
        raise GateError(
            f"{names}: no gate for {', '.join(labels)}{hint}; "
            "name the model under 'models:' as --trust-model does, or write gates for all models under 'gates:'"
        )


def likely_misspelt(files: Iterable[Thresholds], labels: Collection[str]) -> list[str]:
    """Return names under ``models:`` that closely resemble a model of the run without being it: their rules are void.

    Aliases are checked against their list. Whether a user's own name is misspelt, only its likeness can tell.
    """
    names: set[str] = set()
    for file in files:
        names.update(file.model_names())
    others = names.difference(labels)
    return sorted(name for name in others if difflib.get_close_matches(name, labels, n=1, cutoff=0.8))


@dataclass(frozen=True, slots=True)
class Tags:
    """What ``--trust-gate-tags`` chooses.

    Attributes:
        wanted: A gate needs one of these; empty: it needs none.
        unwanted: A gate may have none of these.
    """

    wanted: frozenset[str] = frozenset()
    unwanted: frozenset[str] = frozenset()

    def choose(self, gate: Gate) -> bool:
        """Return whether a gate is judged."""
        if self.wanted and self.wanted.isdisjoint(gate.tags):
            return False
        return self.unwanted.isdisjoint(gate.tags)


def read_tags(text: str, known: Iterable[str], flag: str) -> Tags:
    """Read ``nightly, release`` or ``not nightly``.

    Args:
        text: What the user wrote; empty chooses every gate.
        known: Tags of the threshold files.
        flag: Name of the option in messages.

    Raises:
        GateError: No gate has such a tag.
    """
    names = set(known)
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for entry in text.split(","):
        entry = entry.strip()
        name = entry.removeprefix("not ").strip()
        if not entry:
            continue
        if name not in names:
            raise GateError(f"{flag}: no gate has the tag {name!r}{suggest(name, names)}")
        if name == entry:
            wanted.add(name)
        else:
            unwanted.add(name)
    return Tags(frozenset(wanted), frozenset(unwanted))


def check_tags(files: Sequence[Thresholds], labels: Collection[str], tags: Tags, text: str, flag: str) -> None:
    """Look for tags that leave nothing to judge.

    Args:
        files: Threshold files of the run.
        labels: Its models.
        tags: What was chosen.
        text: What the user wrote.
        flag: Name of the option in messages.

    Raises:
        GateError: There are gates, and the tags choose none.
    """
    gates = _gates(files, labels)
    if gates and not any(tags.choose(gate) for gate in gates):
        raise GateError(f"{flag}: {one_line(text, 80)!r} chooses none of the {len(gates)} gates; they would all vanish")


def selected_tasks(suites: Iterable[Suite], names: Collection[str]) -> set[str]:
    """Return the ids of the tasks that ``--trust-suite`` selects; without a name, of all that prompt the model."""
    selected: set[str] = set()
    for suite in suites:
        for task in suite.tasks:
            # a task that reads another one's responses is not selected by itself
            if task.reads is not None:
                continue
            if not names or suite.name in names or f"{suite.name}/{task.name}" in names:
                selected.add(task.id)
    return selected


def gates_about(files: Iterable[Thresholds], model: str, tasks: set[str]) -> list[Gate]:
    """Return a model's gates that are about at least one of the tasks."""
    return [gate for gate in _gates(files, [model]) if tasks.intersection(gate.tasks)]


def _gates(files: Iterable[Thresholds], models: Iterable[str]) -> list[Gate]:
    models = list(models)
    return [gate for file in files for model in models for gate in file.gates(model)]
