"""The card of a model's own repository: the README.md beside its weights, or on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from pytest_trustllm.config.paths import is_directory, is_file
from pytest_trustllm.errors import ModelError, one_line

_CARD = "README.md"


def hub_card(name: str, user_file: Path | None) -> Path:
    """Return the card of a model that is a directory or a repository of the hub.

    Args:
        name: As ``--trust-model`` has it.
        user_file: The user's models file.

    Raises:
        ModelError: The model has no repository, or there is no card.
    """
    from pytest_trustllm.models import catalogue
    from pytest_trustllm.registry import Registry

    spec = catalogue.resolve(name, user_file=user_file, kind="chat", registry=Registry())
    if spec.provider != "hf":
        raise ModelError(
            f"--trust-card: {one_line(repr(name), 60)} has no repository with a card; give the path of its card"
        )
    directory = Path(spec.target)
    if is_directory(directory):
        if not is_file(directory / _CARD):
            raise ModelError(f"--trust-card: {directory} has no {_CARD}; give the path of the card")
        return directory / _CARD
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(spec.target, _CARD, revision=spec.revision))
    except Exception as e:  # noqa: BLE001 - the library raises many kinds: no network, no such repository, gated
        raise ModelError(
            f"--trust-card: the card of {one_line(spec.target, 100)} cannot be downloaded: {one_line(e, 200)}"
        ) from None
