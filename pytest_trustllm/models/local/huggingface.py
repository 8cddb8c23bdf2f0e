"""Provider ``hf``: models of the Hugging Face hub or of a local directory, run by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pytest_trustllm.config.fields import Choice, Either, Flag, Integer, Key, MappingOf, Reader, Text
from pytest_trustllm.config.paths import is_directory
from pytest_trustllm.models.base import BaseProvider, BatchModel, LoadSettings, ModelKind, ModelSpec
from pytest_trustllm.models.cluster import places
from pytest_trustllm.models.local import requirements
from pytest_trustllm.models.local.loaders import load_here
from pytest_trustllm.models.local.replicas import Replicas, copies_on, devices_of
from pytest_trustllm.models.options import COUNT, Plain


class HuggingFaceProvider(BaseProvider):
    """Loads causal language models, and sequence classifiers and encoders for the roles."""

    form = "<repo or directory>[@revision]"
    kinds: ClassVar[frozenset[ModelKind]] = frozenset({"chat", "classifier", "embedder", "rater"})
    options: ClassVar[Mapping[str, Reader]] = {
        "system_prompt": Key(Text(), "Put before every chat that has no system message."),
        "chat_template": Key(
            Text(), "Jinja2, or the name of one of the tokenizer's; absent: its default. Without any: the bare text."
        ),
        "template_options": Key(MappingOf(Plain()), "Variables for the template, such as {enable_thinking: false}."),
        "add_special_tokens": Key(Flag(), "Let the tokenizer add begin and end; absent: only without a template."),
        "trust_remote_code": Key(Flag(), "Run the repository's code.", default=False),
        "allow_pickle": Key(Flag(), "Read pickled weights (.bin) if there are no safetensors files.", default=False),
        "dtype": Key(
            Choice(("auto", "float32", "bfloat16", "float16")), "Absent: float32 on a CPU, else the checkpoint's."
        ),
        "replicas": Key(
            Either(str, Choice(("auto",)), Integer(1, 1024)),
            "Copies on a cluster; auto: as many as it has room for (--trust-cluster).",
            default="auto",
        ),
        "gpus": Key(Integer(1, 64), "GPUs of each copy on a cluster.", default=1),
        "batch_size": Key(COUNT, "Sequences at once; absent: by memory. --trust-batch-size wins."),
        "device_map": Key(Choice(("auto", "balanced", "sequential")), "Spread one model over several GPUs."),
        "long_prompts": Key(
            Choice(("refuse", "cut")), "What becomes of a prompt that the context cannot hold.", default="refuse"
        ),
        "labels": Key(MappingOf(Text()), "Of a classifier: {LABEL_0: refusal, LABEL_1: compliance}."),
        "label": Key(Text(), "Of a rater: the label whose probability counts; absent: one that begins with toxic."),
    }

    loads_on_cluster: ClassVar[bool] = True

    def locate(self, target: str, base: Path) -> str:
        """Return the path of a directory made absolute; anything else is a repository of the hub."""
        path = base / Path(target).expanduser()
        if is_directory(path) or target.startswith((".", "/", "~")) or Path(target).is_absolute():
            return str(path.resolve())
        return target

    def check(self, spec: ModelSpec) -> None:
        """Look for torch and transformers, and for the files of a local directory.

        Raises:
            ModelError: One of them is missing.
        """
        requirements.check(spec)

    def keeps_answers(self, spec: ModelSpec) -> bool:
        """Return True."""
        return True

    def must_start(self, spec: ModelSpec, settings: LoadSettings) -> bool:
        """Return whether the model runs on a cluster, which may not be there, or not be large enough."""
        return settings.cluster is not None

    def load(self, spec: ModelSpec, settings: LoadSettings) -> BatchModel:
        """Load weights and tokenizer.

        Raises:
            ModelError: They cannot be found or read, or are of another kind than requested.
        """
        if settings.cluster is not None:
            places.check(spec.name, settings.cluster)
            from pytest_trustllm.models.cluster import copies

            return copies.load(spec, settings)
        self.check(spec)
        if spec.kind == "chat":
            devices = devices_of(settings.device)
            if len(devices) > 1 and "device_map" not in spec.options:
                return Replicas(spec, copies_on(devices, spec, settings))
        return load_here(spec, settings)


PROVIDER = HuggingFaceProvider()
