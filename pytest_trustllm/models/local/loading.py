"""Loading what transformers can load: model, tokenizer, device, and what the results file records of them."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers

from pytest_trustllm.errors import ModelError, one_line
from pytest_trustllm.models.base import LoadSettings, ModelSpec
from pytest_trustllm.models.local.adapters import Adapter, find_adapter
from pytest_trustllm.models.local.checkpoint import (
    GGUF_WAYS,
    check_kind,
    check_sizes,
    check_weights,
    has_tokenizer,
    hash_directory,
)
from pytest_trustllm.models.local.rope import stretched

_ONE_AT_A_TIME = threading.Lock()
"""Models of one run are loaded by threads, but while transformers loads, it replaces functions of its classes for the
whole process: of two models at once, one kept a head that was not tied to its embedding."""
_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_MEMORY = 4 << 30
"""Bytes taken to be free where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What :func:`load_checkpoint` returns.

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
        device: torch.device = self.model.device
        return device


def load_checkpoint(spec: ModelSpec, settings: LoadSettings, auto: Any, *, dtype: str | None = None) -> Loaded:
    """Load a model and its tokenizer, without a word on stderr.

    Args:
        spec: Which one.
        settings: Where to.
        auto: The auto class of transformers that fits the model's role.
        dtype: Used where the entry has none; None: the checkpoint's own, or float32 on most CPUs.

    Raises:
        ModelError: It cannot be found or read, is of another kind, or is incomplete.
    """
    device = pick_device(settings.device)
    dtype_name = spec.options.get("dtype") or dtype or ("auto" if device.type != "cpu" else None)
    device_map = spec.options.get("device_map")
    with _ONE_AT_A_TIME, quiet():
        try:
            adapter = find_adapter(spec, Path(spec.target).parent)
            source = _tokenizer_source(spec, adapter)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **_loader_options(spec))
            model = _load_weights(spec, adapter, auto, dtype=dtype_name, device_map=device_map)
            if device_map is None:
                model.to(device)
        except ModelError:
            raise
        except Exception as e:  # hub, safetensors and a repository's own code raise what they like
            raise ModelError(f"models: {spec.name!r} cannot be loaded: {_reason(e)}") from e
    revision = _revision(spec, model, adapter)
    return Loaded(model, tokenizer, revision, _info(spec, model, adapter, revision))


def _loader_options(spec: ModelSpec) -> dict[str, Any]:
    """Return the options that every loader of transformers gets."""
    return {
        "revision": spec.revision,
        "trust_remote_code": spec.options.get("trust_remote_code", False),
        "local_files_only": Path(spec.target).is_absolute(),
    }


def _tokenizer_source(spec: ModelSpec, adapter: Adapter | None) -> str:
    """Return the directory or repository of the tokenizer: an adapter need not bring one."""
    if adapter is None or not Path(spec.target).is_absolute() or has_tokenizer(Path(spec.target)):
        return spec.target
    return adapter.base


def _load_weights(
    spec: ModelSpec, adapter: Adapter | None, auto: Any, *, dtype: str | None, device_map: str | None
) -> Any:
    """Load the model, with its adapter if there is one, and check that it is complete.

    Args:
        spec: Which one.
        adapter: Its adapter.
        auto: The auto class of transformers.
        dtype: A type's name, or ``auto``: the checkpoint's own; None: as this machine's CPU computes best.
        device_map: See the models file.
    """
    options = _loader_options(spec)
    if adapter is not None and not adapter.has_base_files:
        # The revision of the entry is the adapter's, not its base's.
        options |= {"revision": None, "local_files_only": Path(adapter.base).is_absolute()}
    with contextlib.ExitStack() as stack:
        source = spec.target if adapter is None else stack.enter_context(adapter.base_directory())
        check_sizes(spec, _configured(source, options))
        config = transformers.AutoConfig.from_pretrained(source, **options)
        check_kind(spec, config)
        dtype = dtype or cpu_dtype(config)
        model, report = auto.from_pretrained(
            source,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            device_map=device_map,
            output_loading_info=True,
            # Reported by ``check_weights``, with a better line than the exception's.
            ignore_mismatched_sizes=True,
            use_safetensors=None if spec.options.get("allow_pickle") else True,
            **options,
        )
    check_weights(spec, model, report, adapter.supplied if adapter is not None else ())
    if adapter is not None:
        adapter.join(spec, model)
    return model.eval()


def _configured(source: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration as its file has it: transformers makes lists of as many layers as it says."""
    config, _ = transformers.PretrainedConfig.get_config_dict(source, **options)
    found: Mapping[str, Any] = config
    return found


def cpu_dtype(config: Any) -> str:
    """Return the type in which a CPU computes a checkpoint unless its entry has another.

    It is bfloat16 for a checkpoint in bfloat16 if the CPU multiplies matrices in it (AMX): 290 tokens/s instead of 233
    in float32 for SmolLM2-135M-Instruct (2 cores, torch 2.13.0). Elsewhere narrower types are slower than float32, and
    they let a batch change an answer. That is true of AVX512-BF16 too: SmolLM2-135M-Instruct gave 155 tokens/s in
    bfloat16 and 297 in float32 (Xeon with AVX512-BF16 and without AMX, 2 cores, torch 2.13.0).
    """
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    is_bfloat16 = getattr(config, "dtype", None) in (torch.bfloat16, "bfloat16")
    return "bfloat16" if is_bfloat16 and capabilities.get("amx_bf16", False) else "float32"


def _revision(spec: ModelSpec, model: Any, adapter: Adapter | None) -> str | None:
    """Return the commit of the hub, or a hash of a local directory; None if a cache does not tell the commit."""
    if Path(spec.target).is_absolute():
        return hash_directory(Path(spec.target))
    if adapter is not None:
        return adapter.commit
    commit: str | None = getattr(model.config, "_commit_hash", None)
    return commit


def _info(spec: ModelSpec, model: Any, adapter: Adapter | None, revision: str | None) -> dict[str, Any]:
    """Return what the results file records of a model."""
    is_local = Path(spec.target).is_absolute()
    about = {
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "licence": spec.options.get("licence"),
    }
    if model.device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(model.device)
    info = {
        "provider": spec.provider,
        "id": Path(spec.target).name if is_local else spec.target,
        "revision": revision or spec.revision,
        "kind": spec.kind,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "about": about,
    }
    if adapter is not None:
        info["adapter"] = _adapter_info(adapter, model)
    return info


def _adapter_info(adapter: Adapter, model: Any) -> dict[str, Any]:
    """Return what tells an adapter's base from others; files in the adapter's own directory are in the revision."""
    path = Path(adapter.base)
    if adapter.has_base_files:
        return {"kind": adapter.kind}
    if path.is_absolute():
        return {"kind": adapter.kind, "base": path.name, "base_revision": hash_directory(path)}
    return {
        "kind": adapter.kind,
        "base": adapter.base,
        "base_revision": getattr(model.config, "_commit_hash", None),
    }


def pick_device(names: str) -> torch.device:
    """Return the first device that ``--trust-device`` names; ``auto``: cuda, else mps, else cpu.

    Raises:
        ModelError: There is no such device.
    """
    name = names.split(",")[0].strip()
    if name == "auto":
        name = _best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # a name can be well-formed without there being such a device
    except (RuntimeError, AssertionError) as e:
        raise ModelError(f"models: device {name!r} is not usable: {_first_line(e)}") from None
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and the hub from writing warnings and progress bars, and restore their settings afterwards."""
    logging: Any = transformers.utils.logging
    hub: Any = huggingface_hub.utils
    level = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    had_hub_bars = not hub.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
        if had_hub_bars:
            hub.enable_progress_bars()


def _reason(error: Exception) -> str:
    """Return why a model cannot be loaded, and what to do, in one line.

    Transformers and the hub have no type for most of these: their texts are all there is to tell them apart.
    """
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
    if "unrecognized configuration class" in lower:
        return f"{text.removesuffix('.')}: it is not a model of the kind asked for"
    if "safetensors" in lower and ("no file named" in lower or "does not appear to have a file named" in lower):
        return (
            "it has no weights in safetensors files, and pickled ones (.bin) are code of whoever made them; "
            "convert them, or set 'allow_pickle: true' in an entry of your models file"
        )
    if "gguf" in lower:
        return f"{text}; {GGUF_WAYS}"
    return f"{type(error).__name__}: {text}"


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank, or the name of its type."""
    for line in str(error).splitlines():
        if line.strip():
            return one_line(line.strip(), 240).rstrip(".")
    return one_line(type(error).__name__, 240)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device or the machine had no memory left."""
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error).lower()


def position_limit(config: Any) -> int | None:
    """Return how many tokens a causal model can see, None if its configuration does not tell."""
    text_config = config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return stretched(text_config, positions)


def table_size(model: Any) -> int | None:
    """Return for how many tokens a model has an embedding, None if it does not tell."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, TypeError):
        return None


def unknown_token(tokenizer: Any, ids: Sequence[int], table: int | None) -> str | None:
    """Return a sentence about a token that a model has no embedding for, None if it has one for each.

    Tokenizers often have a few tokens more than the model, such as one for padding; they do no harm until they are met.

    Args:
        tokenizer: Names the token.
        ids: Token ids of a text.
        table: How many embeddings the model has; None: unknown, so nothing is wrong.
    """
    highest = max(ids, default=0)
    if table is None or highest < table:
        return None
    token = one_line(repr(tokenizer.convert_ids_to_tokens(highest)), 40)
    return (
        f"the model has {table} embeddings and none for token {highest} ({token}); "
        "its tokenizer belongs to another model, or the embedding was not resized"
    )


def forward_inputs(model: Any) -> frozenset[str]:
    """Return the names of the arguments of a model's forward."""
    return frozenset(inspect.signature(model.forward).parameters)


def cache_name(model: Any) -> str:
    """Return the argument that takes keys and values of the past, empty if there is none; 5.24 renamed it."""
    inputs = forward_inputs(model)
    return next((name for name in ("cache", "past_key_values") if name in inputs), "")


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device; on a CPU, what both the machine and its container can still give."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    of_container = _free_of_container()
    if of_container is None:
        return _free_of_machine()
    return min(_free_of_machine(), of_container)


def _free_of_machine() -> int:
    """Return the bytes that Linux can still give without swapping; a guess on other systems."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _UNKNOWN_MEMORY


def _free_of_container() -> int | None:
    """Return the bytes that are left of a container's own limit, None if it has none: /proc shows the host's memory."""
    with contextlib.suppress(OSError, ValueError):  # "max" instead of a number: no limit
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        return max(0, limit - used)
    return None
