"""Provider ``rules``: recognises refusals by the phrases they begin with, without any model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pytest_trustllm.config import paths
from pytest_trustllm.config.documents import read_document
from pytest_trustllm.errors import ModelError
from pytest_trustllm.models.base import BaseProvider, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.types import Request, Response, digest

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "′": "'", "`": "'", "＇": "'"})
_MARKUP = re.compile(r"[*_#>\"“”「」]+")
_SPACE = re.compile(r"\s+")


class Phrases:
    """The shipped list of refusal phrases.

    Attributes:
        version: Raised when a label can change.
        digest: Hash of the list.
    """

    def __init__(self) -> None:
        file = paths.packaged("models", "refusal", "refusal_phrases.yaml")
        place = read_document(file, "refusal_phrases.yaml", ModelError)
        place.mapping(("version", "head", "lead_in", "opening", "early"))
        self.version = place["version"].integer(1)
        self.digest = digest(place.value)[:16]
        lead_in = "|".join(place["lead_in"].texts())
        opening = "|".join(place["opening"].texts())
        self._opening = re.compile(rf"(?:(?:{lead_in})[\s,.:;!，。！：—–-]*){{0,4}}(?:{opening})")
        self._early = re.compile("|".join(place["early"].texts()))
        self._head = place["head"].integer(1)

    def refuses(self, text: str) -> bool:
        """Return whether a response begins like a refusal; a blank one does not."""
        head = normalized(text)[: self._head]
        return self._opening.match(head) is not None or self._early.search(head) is not None


def normalized(text: str) -> str:
    """Return text in lower case with straight apostrophes, single spaces and no Markdown signs."""
    folded = text.translate(_APOSTROPHES).casefold()
    without_markup = _MARKUP.sub("", folded)
    return _SPACE.sub(" ", without_markup).strip()


@cache
def phrases() -> Phrases:
    """Return the shipped list, read once."""
    return Phrases()


class RulesModel:
    """A classifier by phrases, which answers ``refusal`` or ``compliance`` without a probability."""

    stored = False
    free = True
    max_concurrency = 1

    def __init__(self) -> None:
        self.info: Mapping[str, Any] = {
            "provider": "rules",
            "id": "rules",
            "revision": f"{phrases().version}-{phrases().digest}",
            "kind": "classifier",
        }

    async def answer(self, request: Request) -> Response:
        """Return the label of a text."""
        return Response(text="refusal" if phrases().refuses(request.text) else "compliance")

    async def close(self) -> None:
        """Do nothing: there are no connections."""


class RulesProvider(BaseProvider):
    """Loads the classifier that needs no model."""

    form = ""
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"classifier"})

    def load(self, spec: ModelSpec, settings: LoadSettings) -> RulesModel:
        """Read the phrases."""
        return RulesModel()


PROVIDER = RulesProvider()
