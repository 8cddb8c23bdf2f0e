"""Shapes of parameters that a dataclass's field types cannot tell, and files beside a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pytest_trustllm.config.containment import HOW, check_below
from pytest_trustllm.config.documents import Place
from pytest_trustllm.config.fields import Shape, Text
from pytest_trustllm.config.paths import is_file
from pytest_trustllm.errors import one_line


class Scope(Protocol):
    """What the shape of a parameter may depend on."""

    @property
    def folder(self) -> Path:
        """Directory of the suite."""
        ...

    @property
    def component(self) -> Shape[tuple[str, Any]]:
        """Reads another component of the same kind, such as a scorer inside a scorer, as name and object."""
        ...


_SHAPE = "shape"


def shaped(make: Callable[[Scope], Shape[Any]]) -> Mapping[str, Any]:
    """Return the ``metadata`` of a dataclass field whose value a suite gives in a shape of its own.

    Args:
        make: Returns the shape in a suite; without it, the field's type tells the shape.
    """
    return MappingProxyType({_SHAPE: make})


def shape_in(metadata: Mapping[str, Any], scope: Scope) -> Shape[Any] | None:
    """Return the shape that a field's ``metadata`` has, if it has one."""
    make: Callable[[Scope], Shape[Any]] | None = metadata.get(_SHAPE)
    if make is None:
        return None
    return make(scope)


@dataclass(frozen=True, slots=True)
class FileBeside:
    """A file named relative to the suite.

    Attributes:
        folder: Directory of the suite.
    """

    folder: Path

    def __call__(self, place: Place) -> Path:
        """Return its path."""
        path = self.folder / place.text()
        outside = place.fail(f"{one_line(place.text(), 200)} leads out of what the suite may read; {HOW}")
        check_below(path, outside)
        if not is_file(path):
            raise place.fail(f"no such file beside the suite: {one_line(place.value, 200)}")
        return path

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return Text().schema()
