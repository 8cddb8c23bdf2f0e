"""Causal language models of transformers: loading, and generation in batches that do not change an answer."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy
import torch
import transformers
from jinja2 import TemplateError

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec, encodable
from pytest_trustllm.records import Request, Response, digest

_LOG = logging.getLogger(__name__)
_BATCH = 16
_WINDOW = 512
_WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.model", "*.txt", "*.jinja", "*.py")
_PAST = ("cache", "past_key_values")
"""What models call the keys and values of the past, in their arguments and outputs: since transformers 5.24, before."""
# Some templates put today's date into the prompt; a fixed one keeps prompts, answers and the store the same tomorrow.
_TEMPLATE_DATE = "26 Jul 2024"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What :func:`load` found.

    Attributes:
        model: In evaluation mode, on its device.
        tokenizer: Its tokenizer.
        revision: Commit of the hub, or a hash of the directory's files.
        info: What the results file records of both.
    """

    model: Any
    tokenizer: Any
    revision: str | None
    info: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        found: torch.device = self.model.device
        return found


def load(spec: ModelSpec, settings: LoadSettings, auto: Any, *, dtype: str | None = None) -> Loaded:
    """Load a model and its tokenizer, without a word on stderr.

    Args:
        spec: Which one.
        settings: Where to.
        auto: The auto class that fits what the model is asked for.
        dtype: Used where the entry has none; None: float32 on a CPU, else the checkpoint's own.

    Raises:
        ModelError: It cannot be had.
    """
    device = pick_device(settings.device)
    local = Path(spec.target).is_absolute()
    named = spec.options.get("dtype") or dtype or ("float32" if device.type == "cpu" else "auto")
    common = {
        "revision": spec.revision,
        "trust_remote_code": spec.options.get("trust_remote_code", False),
        "local_files_only": local,
    }
    with quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(spec.target, **common)
            model = auto.from_pretrained(
                spec.target, dtype=named if named == "auto" else getattr(torch, named), **common
            )
            model.eval().to(device)
        except Exception as e:  # hub, safetensors and a repository's own code raise what they like
            raise ModelError(f"models: {spec.name!r} cannot be loaded: {_reason(e)}") from e
    revision = hash_directory(Path(spec.target)) if local else getattr(model.config, "_commit_hash", None)
    info = {
        "provider": spec.provider,
        "id": Path(spec.target).name if local else spec.target,
        "revision": revision or spec.revision,
        "kind": spec.kind,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "about": {
            "architecture": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "licence": spec.options.get("licence"),
        },
    }
    return Loaded(model, tokenizer, revision, info)


def pick_device(name: str) -> torch.device:
    """Return the device that ``--trust-device`` names; ``auto``: cuda, else mps, else cpu.

    Raises:
        ModelError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ModelError(f"models: device {name!r} is not usable: {_first_line(e)}") from None
    return device


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and the hub from writing warnings and progress bars, and put their settings back afterwards."""
    theirs: Any = transformers.utils.logging
    hub: Any = huggingface_hub.utils
    level, bars, hub_bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
        if not hub_bars:
            hub.enable_progress_bars()


def hash_directory(path: Path) -> str:
    """Return a hash of a model directory: weights, tokenizer, configuration, code."""
    found = hashlib.sha256()
    for file in sorted({file for pattern in _WEIGHTS for file in path.glob(pattern)}):
        found.update(file.name.encode())
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:32]


def _reason(error: Exception) -> str:
    text = _first_line(error)
    lower = f"{type(error).__name__} {error}".lower()
    if "trust_remote_code" in lower:
        return "it runs code of its own; read it, then set 'trust_remote_code: true' in an entry of your models file"
    if "gated" in lower:
        return f"{text}; accept its licence on the hub, then run 'hf auth login' or set HF_TOKEN"
    if "401" in lower or "repositorynotfound" in lower or "not a valid model identifier" in lower:
        return f"{text}; check the spelling, or log in with 'hf auth login' if it is private"
    if any(word in lower for word in ("connect", "offline", "resolve", "timed out", "cached files")):
        return f"{text}; is the network reachable, or is it in the local cache?"
    return f"{type(error).__name__}: {text}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0] if lines else type(error).__name__, 240).rstrip(".")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error).lower()


def position_limit(config: Any) -> int | None:
    """Return how many tokens a causal model can see, or None if nothing says so."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


@dataclass(frozen=True, slots=True)
class Row:
    """A request ready for a batch.

    Attributes:
        index: Its place among the requests.
        request: The request.
        ids: Token ids of the prompt.
        room: How many tokens the answer may have.
    """

    index: int
    request: Request
    ids: Sequence[int]
    room: int


class ChatModel:
    """A causal language model behind its chat template.

    A greedy answer is that of the prompt alone; a sampled one depends on the prompt, the request's seed and the step:
    batch size and neighbours change neither (in float32; narrower types round differently in other batches).
    """

    stored = True
    window = _WINDOW

    def __init__(self, spec: ModelSpec, settings: LoadSettings) -> None:
        loaded = load(spec, settings, transformers.AutoModelForCausalLM)
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._device = loaded.device
        self._context = position_limit(self._model.config)
        self._inputs = frozenset(inspect.signature(self._model.forward).parameters)
        self._past = next((name for name in _PAST if name in self._inputs), "")
        if not self._past:
            raise ModelError(
                f"models: {spec.name!r}: {type(self._model).__name__} keeps no keys and values; "
                "serve it with vLLM or the like and use 'openai:<model>'"
            )
        self._system = spec.options.get("system_prompt")
        self._template = spec.options.get("chat_template") or self._tokenizer.chat_template
        self._template_options = {"date_string": _TEMPLATE_DATE, **spec.options.get("template_options", {})}
        self._specials = spec.options.get("add_special_tokens", self._template is None)
        self._ends = _end_tokens(self._model, self._tokenizer)
        self._batch = settings.batch_size or spec.options.get("batch_size") or _BATCH
        self.info: Mapping[str, Any] = {
            **loaded.info,
            "chat_template": digest(self._template)[:16] if self._template else None,
            "template_options": self._template_options,
            "add_special_tokens": self._specials,
            "system_prompt": self._system,
            "context": self._context,
            "about": {**loaded.info["about"], "batch_size": self._batch},
        }

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """Yield (index, response) batch by batch, longest prompts first."""
        rows: list[Row] = []
        for index, request in enumerate(requests):
            found = self._prepare(index, request)
            if isinstance(found, Row):
                rows.append(found)
            else:
                yield index, found
        rows.sort(key=lambda row: (-row.room, -len(row.ids)))
        while rows:
            batch, rows = rows[: self._batch], rows[self._batch :]
            try:
                yield from self._run(batch)
            except RuntimeError as e:
                if not is_out_of_memory(e):
                    raise
                rows = batch + rows
                if len(batch) == 1:
                    rows = rows[1:]
                    yield batch[0].index, Response(error=f"out of memory for a prompt of {len(batch[0].ids)} tokens")
                else:
                    self._shrink(len(batch))

    def _shrink(self, tried: int) -> None:
        self._batch = max(1, tried // 2)
        _LOG.warning("out of memory: batches of %d from here on", self._batch)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _prepare(self, index: int, request: Request) -> Row | Response:
        try:
            ids = self._tokenizer(encodable(self.prompt(request)), add_special_tokens=self._specials, verbose=False)[
                "input_ids"
            ]
        except (TemplateError, TypeError, ValueError) as e:
            return Response(error=f"the chat template does not take this chat: {one_line(e)}")
        if not ids:
            return Response(error="the prompt has no tokens")
        room = request.generation.max_new_tokens
        if self._context is not None:
            room = min(room, self._context - len(ids))
        if room < 1:
            error = f"prompt of {len(ids)} tokens is longer than the model's context of {self._context}"
            return Response(error=error, input_tokens=len(ids))
        return Row(index, request, ids, room)

    def prompt(self, request: Request) -> str:
        """Return the text that the model continues."""
        messages = list(request.messages)
        if self._system is not None and not any(role == "system" for role, _ in messages):
            messages.insert(0, ("system", self._system))
        if self._template is None:
            return "\n\n".join(content for _, content in messages)
        text: str = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
            **self._template_options,
        )
        return text

    def _run(self, batch: Sequence[Row]) -> Iterator[tuple[int, Response]]:
        start = time.perf_counter()
        with torch.inference_mode():
            answers = self._decode(batch)
        share = (time.perf_counter() - start) / len(batch)
        for row, ids in zip(batch, answers, strict=True):
            text, stopped = self._text(ids, row.request.generation.stop)
            yield (
                row.index,
                Response(
                    text=text,
                    input_tokens=len(row.ids),
                    output_tokens=len(ids),
                    finish="stop" if stopped or ids[-1] in self._ends else "length",
                    seconds=share,
                ),
            )

    def _decode(self, batch: Sequence[Row]) -> list[list[int]]:
        """Return the token ids of every row's answer, the end token included.

        Rows are left-padded to one length; a row that is done leaves the batch once a quarter of it is.
        """
        width = max(len(row.ids) for row in batch)
        ids = torch.tensor([[0] * (width - len(row.ids)) + list(row.ids) for row in batch], device=self._device)
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in batch], device=self._device)
        sampler = Sampler(batch)
        answers: list[list[int]] = [[] for _ in batch]
        live = list(range(len(batch)))  # which row of the batch each row of the tensors is
        done = [False] * len(batch)
        cache: Any = None
        for step in range(max(row.room for row in batch)):
            logits, cache = self._step(ids, mask, cache)
            chosen = sampler.pick(logits, live, step)
            for row, token in zip(live, chosen.tolist(), strict=True):
                if not done[row]:
                    answers[row].append(token)
                    done[row] = self._is_done(batch[row], answers[row])
            running = [i for i, row in enumerate(live) if not done[row]]
            if not running:
                break
            if len(running) <= 0.75 * len(live) and _can_drop_rows(cache):
                keep = torch.tensor(running, device=self._device)
                cache.batch_select_indices(keep)
                mask, chosen, live = mask[keep], chosen[keep], [live[i] for i in running]
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        return answers

    def _step(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Run the new tokens.

        Args:
            ids: (batch, new), left-padded.
            mask: (batch, past + new), 1 where a token is real.
            cache: Keys and values of the past, None at first.

        Returns:
            Logits of the last position, (batch, vocabulary) in float32; the cache.
        """
        inputs = {"input_ids": ids, "attention_mask": mask, self._past: cache, "use_cache": True}
        if "position_ids" in self._inputs:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._inputs:
            inputs["logits_to_keep"] = 1
        found = self._model(**inputs)
        return found.logits[:, -1].float(), getattr(found, self._past, cache)

    def _is_done(self, row: Row, answer: Sequence[int]) -> bool:
        if answer[-1] in self._ends or len(answer) >= row.room:
            return True
        stop = row.request.generation.stop
        if not stop:
            return False
        tail = self._tokenizer.decode(answer[-(max(map(len, stop)) + 8) :], skip_special_tokens=True)
        return any(word in tail for word in stop)

    def _text(self, ids: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
        """Return the answer's text, cut before the first stop string, and whether there was one."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cuts = [found for found in (text.find(word) for word in stop) if found >= 0]
        return (text[: min(cuts)], True) if cuts else (text, False)


def _can_drop_rows(cache: Any) -> bool:
    return all(hasattr(part, "batch_select_indices") for part in (cache, *getattr(cache, "layers", ())))


class Sampler:
    """Chooses the next token of every row: the likeliest, or one drawn with a uniform number of the row's own.

    The number of a step comes from a counter-based generator keyed by the request's seed, so that neither the batch nor
    what other rows drew can change it.
    """

    def __init__(self, batch: Sequence[Row]) -> None:
        self._temperatures = [row.request.generation.temperature for row in batch]
        self._uniform = [
            uniform(row.request.seed, row.room) if temperature > 0 else None
            for row, temperature in zip(batch, self._temperatures, strict=True)
        ]

    def pick(self, logits: torch.Tensor, live: Sequence[int], step: int) -> torch.Tensor:
        """Return a token per row.

        Args:
            logits: (rows, vocabulary), float32.
            live: Which row of the batch each row of ``logits`` is.
            step: Tokens chosen before.

        Returns:
            (rows,) token ids.
        """
        chosen = logits.argmax(-1)
        drawn = [(i, u[step]) for i, row in enumerate(live) if (u := self._uniform[row]) is not None and step < len(u)]
        if drawn:
            where = torch.tensor([i for i, _ in drawn], device=logits.device)
            scale = torch.tensor([self._temperatures[live[i]] for i, _ in drawn], device=logits.device)
            chosen[where] = draw(logits[where] / scale[:, None], [float(u) for _, u in drawn])
        return chosen


def uniform(seed: int, count: int) -> Any:
    """Return the first ``count`` uniform numbers in [0, 1) of a seed, as a numpy array."""
    return numpy.random.Generator(numpy.random.Philox(key=seed % 2**128)).random(count)


def draw(logits: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    """Return the token at which the distribution function of each row passes its uniform number in [0, 1).

    Args:
        logits: (rows, vocabulary).
        numbers: One per row.
    """
    device = logits.device
    if device.type == "mps":  # it has no float64
        logits = logits.cpu()
    heights = torch.softmax(logits.double(), -1).cumsum(-1)
    marks = torch.tensor(numbers, dtype=torch.float64, device=heights.device)[:, None] * heights[:, -1:]
    found = torch.searchsorted(heights, marks, right=True).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1).to(device)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = configured if configured is not None else getattr(model.config.get_text_config(), "eos_token_id", None)
    ends = {found} if isinstance(found, int) else set(found or ())
    return frozenset(ends | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()))
