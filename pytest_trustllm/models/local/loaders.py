"""Loads a model of transformers into this process."""

from __future__ import annotations

from pytest_trustllm.models.base import BatchModel, LoadSettings, ModelSpec


def load_here(spec: ModelSpec, settings: LoadSettings) -> BatchModel:
    """Load a chat model, or an encoder for a role.

    Raises:
        ModelError: It cannot be found or read, or is of another kind than requested.
    """
    if spec.kind == "chat":
        from pytest_trustllm.models.local.chat import ChatModel

        return ChatModel(spec, settings)
    from pytest_trustllm.models.local.encoders import load_encoder

    return load_encoder(spec, settings)
