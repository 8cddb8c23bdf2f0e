"""A task and its suite, as read from a suite file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_trustllm.config import paths
from pytest_trustllm.extensions import SuitePackage
from pytest_trustllm.suites.metric_specs import MetricSpec
from pytest_trustllm.suites.pinned import PinnedFile
from pytest_trustllm.suites.sources import DataSpec
from pytest_trustllm.suites.talks import Talk
from pytest_trustllm.suites.toolbox import Toolbox
from pytest_trustllm.suites.transforms import Transform
from pytest_trustllm.types import MEAN, NOTHING, Generation, Reducer


@dataclass(frozen=True, slots=True)
class Task:
    """One way of prompting and scoring.

    Attributes:
        suite: Name of the suite file without ``.yaml``.
        dimension: Such as ``safety``.
        name: Unique within the dimension.
        version: Raised whenever a reported number can change.
        title: For people.
        data: Where the rows come from.
        prompt: Jinja2 template over the row's fields; None: the row's own ``prompt``.
        messages: (role, template) pairs instead of a single prompt.
        generation: How answers are generated.
        scorer: The scorer object.
        scorer_name: Its registered name.
        metrics: The first one is the headline.
        group: Group name -> field, fields (joined by a dot) or template over the row.
        reads: Name of the task of the same suite whose answers this one scores; it sends no prompts of its own.
        cluster: Field, fields or template over the row (of a pair: its first row); samples with the same value were
            made of one source item and depend on each other. None: all samples are independent.
        reducer: What the epochs of a sample come to.
        transforms: Every row is asked once in each of these ways; empty: once as it is.
        talk: How the conversation goes on after the first answer; None: it ends there.
        toolbox: The tools that the model may call, and their results; None: there are none.
        fetched_as: What ``data fetch`` calls its pinned files.
        licence: Of its rows, as the suite states it; None: it does not.
        tags: What its evidence belongs to, such as an entry of a list of risks; for people.
    """

    suite: str
    dimension: str
    name: str
    version: int
    title: str
    data: DataSpec
    prompt: str | None
    messages: tuple[tuple[str, str], ...] | None
    generation: Generation
    scorer: Any
    scorer_name: str
    metrics: tuple[MetricSpec, ...]
    group: Mapping[str, str | tuple[str, ...]]
    reads: str | None = None
    cluster: str | tuple[str, ...] | None = None
    transforms: tuple[Transform, ...] = ()
    reducer: Reducer = MEAN
    talk: Talk | None = None
    toolbox: Toolbox | None = None
    fetched_as: str = ""
    licence: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``dimension/task``."""
        return f"{self.dimension}/{self.name}"

    @property
    def answers_from(self) -> str:
        """Id of the task whose answers this one scores: its own id, or that of the task it ``reads``."""
        if self.reads is None:
            return self.id
        return f"{self.dimension}/{self.reads}"

    @property
    def is_conversation(self) -> bool:
        """Whether a sample may take more than one answer per prompt."""
        return self.talk is not None or self.toolbox is not None

    @property
    def roles(self) -> frozenset[str]:
        """The roles that asking and scoring need."""
        roles = set(self.scorer.roles)
        if self.talk is not None and self.talk.simulator is not None:
            roles.add("simulator")
        if any(transform.is_paraphrase for transform in self.transforms):
            roles.add("simulator")
        return frozenset(roles)

    def metric_id(self, metric: str) -> str:
        """``dimension/task.metric``."""
        return f"{self.id}.{metric}"


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite file.

    Attributes:
        name: File name without ``.yaml``.
        path: The file.
        shown: Its name in messages and node ids.
        dimension: Such as ``safety``.
        source: Where it comes from: paper, licence.
        tasks: In file order.
        builtin: It was read as a suite that pytest-trustllm ships.
        package: The installed package of suites that it is part of; None: it is the project's own, or shipped.
        files: Name -> file that it pins.
        read: The file itself, and what it names beside it: rows, rubrics, schemas.
    """

    name: str
    path: Path
    shown: str
    dimension: str
    source: Mapping[str, Any]
    tasks: tuple[Task, ...]
    builtin: bool
    package: SuitePackage | None = None
    files: Mapping[str, PinnedFile] = field(default_factory=lambda: NOTHING)
    read: tuple[Path, ...] = ()

    @property
    def is_shipped(self) -> bool:
        """Whether pytest-trustllm ships the file, also where a checkout of it reads the file as a project's own."""
        return self.path.resolve().is_relative_to(paths.shipped("suites").resolve())
