"""Loading what transformers can load: model, tokenizer, device, and what the results file records of them."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec

_WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.model", "*.txt", "*.jinja", "*.py")
_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_MEMORY = 4 << 30
"""Bytes taken to be free where the system does not say."""


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
    mapping = spec.options.get("device_map")
    common = {
        "revision": spec.revision,
        "trust_remote_code": spec.options.get("trust_remote_code", False),
        "local_files_only": local,
    }
    with quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(spec.target, **common)
            model = auto.from_pretrained(
                spec.target, dtype=named if named == "auto" else getattr(torch, named), device_map=mapping, **common
            ).eval()
            if mapping is None:
                model.to(device)
        except Exception as e:  # hub, safetensors and a repository's own code raise what they like
            raise ModelError(f"models: {spec.name!r} cannot be loaded: {_reason(e)}") from e
    revision = hash_directory(Path(spec.target)) if local else getattr(model.config, "_commit_hash", None)
    info = {
        "provider": spec.provider,
        "id": Path(spec.target).name if local else spec.target,
        "revision": revision or spec.revision,
        "kind": spec.kind,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "about": {
            "architecture": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "licence": spec.options.get("licence"),
            **({"gpu": torch.cuda.get_device_name(model.device)} if model.device.type == "cuda" else {}),
        },
    }
    return Loaded(model, tokenizer, revision, info)


def pick_device(name: str) -> torch.device:
    """Return the first device that ``--trust-device`` names; ``auto``: cuda, else mps, else cpu.

    Raises:
        ModelError: There is no such device.
    """
    name = name.split(",")[0].strip()
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


def forward_inputs(model: Any) -> frozenset[str]:
    """Return the names of the arguments of a model's forward."""
    return frozenset(inspect.signature(model.forward).parameters)


def cache_name(model: Any) -> str:
    """Return the argument that takes keys and values of the past, empty if there is none; 5.24 renamed it."""
    inputs = forward_inputs(model)
    return next((name for name in ("cache", "past_key_values") if name in inputs), "")


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device; for the CPU, those that the machine and its container still give."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_UNKNOWN_MEMORY]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        limits = [next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))]
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        limit, used = (int((_CGROUP / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        limits.append(max(0, limit - used))
    return min(limits)
