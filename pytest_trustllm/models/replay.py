"""Provider ``replay``: recorded responses instead of a model."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_trustllm.config.paths import exists, files_below, is_directory, is_file
from pytest_trustllm.config.reading import read_json
from pytest_trustllm.errors import ModelError, SuiteError, one_line
from pytest_trustllm.models.base import BaseProvider, LoadSettings, ModelSpec
from pytest_trustllm.suites.rows import Archive, DataRow, read_lines
from pytest_trustllm.types import Request, Response, ToolCall

_LINES_SUFFIXES = (".jsonl", ".json")
_ANSWER_KEYS = ("response", "res")


class ReplayModel(ABC):
    """Recorded responses; subclasses know how to find one.

    Attributes:
        stored: False, as they are in a file already.
        free: True, as reading them costs nothing.
        max_concurrency: 1, as a response is available at once.
    """

    stored = False
    free = True
    max_concurrency = 1

    def __init__(self, path: Path) -> None:
        self.info: Mapping[str, Any] = {"provider": "replay", "id": path.name, "revision": _hash(path)}

    async def answer(self, request: Request) -> Response:
        """Return the recorded response to a request, or one with ``error``."""
        return self.find(request)

    async def close(self) -> None:  # noqa: B027 - no recording needs more
        """Do nothing: there are no connections."""

    @abstractmethod
    def find(self, request: Request) -> Response:
        """Return the recorded response to a request, or one with ``error``."""


class ArchiveReplay(ReplayModel):
    """TrustLLM result files, the data set's rows with a ``res`` each; responses are found by data file and row."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = _open(path)
        self._files: dict[str, Sequence[DataRow]] = {}

    def find(self, request: Request) -> Response:
        """Return the row's ``res``; the response is missing if that is null or absent.

        Raises:
            ModelError: The row has another prompt than the request: these are not responses to this data.
        """
        if request.origin is None:
            return Response(error="no recorded response: the request does not come from a row of a data set")
        file, number = request.origin
        if file not in self._archive:
            return Response(error=f"no recorded response: {file} is not in the archive")
        rows = self._rows(file)
        if number >= len(rows):
            return Response(error=f"no recorded response: {file} has {len(rows)} rows, expected row {number}")
        row = rows[number]
        if "prompt" in row and row["prompt"] not in _possible_prompts(request):
            raise ModelError(
                f"replay: {self._archive.path.name}: {file} row {number}: the recorded prompt "
                f"{one_line(repr(row['prompt']), 60)} is not the data's {one_line(repr(request.text), 60)}; "
                "are these responses to another version of the data?"
            )
        return _response(row.get("res"))

    def _rows(self, file: str) -> Sequence[DataRow]:
        if file not in self._files:
            try:
                rows = self._archive.rows(file)
            except SuiteError as e:
                raise ModelError(str(e)) from None
            if rows and not any("res" in row for row in rows):
                raise ModelError(
                    f"replay: {self._archive.path.name}: no row of {file} has a 'res'; is it the data set itself?"
                )
            self._files[file] = rows
        return self._files[file]


class LinesReplay(ReplayModel):
    """Prompts with responses, found by prompt.

    The n-th request with a prompt gets the n-th response recorded for it; after the last it starts over.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._name = path.name
        self._recorded: dict[str, list[object]] = defaultdict(list)
        self._requested: dict[str, int] = defaultdict(int)
        for prompt, answer in _pairs(path):
            self._recorded[prompt].append(answer)

    def find(self, request: Request) -> Response:
        """Return the next response recorded for the prompt."""
        for prompt in _possible_prompts(request):
            answers = self._recorded.get(prompt)
            if answers:
                turn = self._requested[prompt]
                self._requested[prompt] += 1
                return _response(answers[turn % len(answers)])
        return Response(error=f"no recorded response: {self._name} has no line with this prompt")


def _possible_prompts(request: Request) -> list[str]:
    """Return the prompts under which a response may be recorded: the whole chat, or its only user message."""
    prompts = [request.text]
    user_messages = [content for role, content in request.messages if role == "user"]
    if len(user_messages) == 1 and len(request.messages) > 1:
        prompts += user_messages
    return prompts


def _response(recorded: object) -> Response:
    if isinstance(recorded, Response):
        return recorded
    if recorded is None or isinstance(recorded, str):
        return Response(text=recorded)
    return Response(error=f"the recorded response is not text but {type(recorded).__name__}")


def _open(path: Path) -> Archive:
    try:
        return Archive(path, "replay")
    except SuiteError as e:
        # What follows is advice about the data set, not about a recording
        raise ModelError(str(e).partition("; give the ")[0]) from None


def _pairs(path: Path) -> Iterator[tuple[str, object]]:
    """Yield (prompt, response) of ``prompt``/``response`` lines, or of a samples file of this plugin."""
    for number, row in _rows(path):
        where = f"replay: {path.name}: entry {number}"
        if "prompts" in row:
            yield from _pairs_of_sample(row, where)
            continue
        answer_keys = [key for key in _ANSWER_KEYS if key in row]
        if not isinstance(row.get("prompt"), str) or not answer_keys:
            keys = ", ".join(map(repr, row)) or "none"
            raise ModelError(f"{where}: expected the keys 'prompt' and 'response', found {keys}")
        yield row["prompt"], row[answer_keys[0]]


def _pairs_of_sample(row: DataRow, where: str) -> Iterator[tuple[str, object]]:
    """Yield (prompt, response) of one sample, which may have fewer responses than prompts."""
    try:
        if row.get("talks"):
            yield from _pairs_of_talks(row)
            return
        prompts = [_text_of_chat(chat) for chat in row["prompts"]]
        answers = [None if response is None else response.get("text") for response in row["responses"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(f"{where}: 'prompts' and 'responses' are not those of a samples file") from None
    yield from zip(prompts, answers, strict=False)


def _pairs_of_talks(row: DataRow) -> Iterator[tuple[str, object]]:
    """Yield (prompt, response) of conversations: each response answers all that was said before it."""
    for response in row["responses"]:
        talk = row["talks"][response.get("epoch", 0)]
        calls = tuple(ToolCall(**call) for call in response.get("calls", ()))
        if "at" in response:
            prompt = _text_of_chat(talk[: response["at"]])
        else:  # a single prompt, to which an app answered with calls of its own
            prompt = _text_of_chat(row["prompts"][-1])
        yield prompt, Response(text=response.get("text"), calls=calls) if calls else response.get("text")


def _text_of_chat(chat: Iterable[tuple[str, object]]) -> str:
    """Return a chat as :attr:`Request.text` has it."""
    return "\n\n".join(str(content) for _, content in chat)


def _rows(path: Path) -> Iterable[tuple[int, DataRow]]:
    if path.suffix == ".jsonl":
        try:
            return enumerate(read_lines(path, f"replay: {path.name}")[0], 1)
        except SuiteError as e:
            raise ModelError(str(e)) from None
    rows = read_json(path, f"replay: {path.name}", ModelError)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ModelError(f"replay: {path.name}: is not a JSON list of objects")
    return enumerate(rows, 1)


def _hash(path: Path) -> str:
    """Return a hash of the recorded responses, of all ``.json`` files if it is a directory."""
    sha256 = hashlib.sha256()
    if is_directory(path):
        for file in files_below(path, ".json", f"replay: {path}", ModelError):
            sha256.update(file.relative_to(path).as_posix().encode())
            sha256.update(file.read_bytes())
    else:
        sha256.update(path.read_bytes())
    return sha256.hexdigest()[:16]


class ReplayProvider(BaseProvider):
    """Plays back a TrustLLM results directory or zip, or a file of prompts and responses."""

    form = "<path>"

    def locate(self, target: str, base: Path) -> str:
        """Return the path made absolute."""
        return str((base / Path(target).expanduser()).resolve())

    def recording(self, spec: ModelSpec) -> Path:
        """Return the file or directory that is played back."""
        return Path(spec.target)

    def check(self, spec: ModelSpec) -> None:
        """Check that the path can be replayed.

        Raises:
            ModelError: It does not exist, or is in none of the accepted formats.
        """
        path = Path(spec.target)
        if not exists(path):
            raise ModelError(f"models: {spec.name!r}: {path} does not exist")
        if path.suffix not in _LINES_SUFFIXES:
            _open(path)

    def load(self, spec: ModelSpec, settings: LoadSettings) -> ReplayModel:
        """Open the recording.

        Raises:
            ModelError: It cannot be read.
        """
        self.check(spec)
        path = Path(spec.target)
        if path.suffix in _LINES_SUFFIXES and is_file(path):
            return LinesReplay(path)
        return ArchiveReplay(path)


PROVIDER = ReplayProvider()
