"""The tasks of a run and their samples, as the model host reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_trustllm.config.containment import files_anywhere
from pytest_trustllm.engine.messages import SuiteLocation
from pytest_trustllm.errors import SuiteError
from pytest_trustllm.extensions import SuitePackage
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.samples import DataSource, Entry
from pytest_trustllm.suites.task import Task
from pytest_trustllm.types import Sample


class SampleSource:
    """Finds tasks and samples by id.

    Args:
        suites: Where the suites are.
        data: The run's data.
        registry: Names that suites may use.
        root: The rootdir.
    """

    def __init__(self, suites: Iterable[SuiteLocation], data: DataSource, registry: Registry, root: Path) -> None:
        self._data = data
        self._registry = registry
        self._root = root
        self._tasks: dict[str, Task] = {}
        self._readers: dict[str, list[Task]] = {}
        self._entries: dict[str, dict[str, Entry]] = {}
        for location in suites:
            self._read(location)

    def _read(self, location: SuiteLocation) -> None:
        file = Path(location["path"])
        package = SuitePackage(location["package"], file.parent) if location["package"] else None
        with files_anywhere():  # pytest's process has checked which files the suite names
            suite = read_suite(file, self._registry, root=self._root, builtin=location["builtin"], package=package)
        for task in suite.tasks:
            if task.reads is None:
                self._tasks[task.id] = task
            else:
                self._readers.setdefault(f"{task.dimension}/{task.reads}", []).append(task)

    @property
    def hashes(self) -> Mapping[str, str]:
        """Data file -> SHA-256, of the files read so far."""
        return self._data.hashes

    def task(self, task_id: str) -> Task:
        """Return a task that has samples of its own."""
        return self._tasks[task_id]

    def readers(self, task_id: str) -> Sequence[Task]:
        """Return the tasks that score the responses to a task's samples as well."""
        return self._readers.get(task_id, ())

    def sample(self, task_id: str, sample_id: str) -> Sample:
        """Return a sample, rendered.

        Raises:
            SuiteError: The task has no such sample.
        """
        task = self._tasks[task_id]
        return self._data.sample(task, self._entry(task, sample_id))

    def _entry(self, task: Task, sample_id: str) -> Entry:
        if task.id not in self._entries:
            self._entries[task.id] = {entry.id: entry for entry in self._data.entries(task)}
        try:
            return self._entries[task.id][sample_id]
        except KeyError:
            raise SuiteError(f"{task.id}: no sample {sample_id!r}") from None

    def roles(self, task_ids: Iterable[str]) -> list[str]:
        """Return the roles that the scorers of tasks and of their readers use, sorted."""
        roles: set[str] = set()
        for task_id in task_ids:
            for task in (self._tasks[task_id], *self.readers(task_id)):
                roles.update(task.roles)
        return sorted(roles)
