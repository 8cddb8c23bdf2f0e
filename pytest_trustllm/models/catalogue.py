"""From a name on the command line to a model spec: the shipped models, the user's models file, inline names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_trustllm.config import paths
from pytest_trustllm.config.documents import Place, read_document
from pytest_trustllm.config.fields import Key, Table, open_words
from pytest_trustllm.config.paths import is_directory
from pytest_trustllm.config.secrets import named_secret, without_url_secrets
from pytest_trustllm.errors import ModelError, TrustLLMError, one_line, suggest
from pytest_trustllm.models import options
from pytest_trustllm.models.base import MODEL_KINDS, ModelKind, ModelSpec, Provider
from pytest_trustllm.registry import Registry

_KIND_IN_WORDS = {
    "chat": "a chat model",
    "classifier": "a classifier",
    "embedder": "an embedder",
    "rater": "a toxicity rater",
}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of a models file.

    Attributes:
        name: The entry's key.
        provider: Registered provider; empty if the model is not available.
        target: What the provider understands: repository, directory, API model, path, ``module:callable``.
        revision: Hub revision.
        kind: The only kind of model to use it as; None: any that its provider supports.
        aliases: Other names of the entry.
        licence: Licence of the weights, or ``proprietary``.
        open: The weights can be downloaded.
        in_paper: One of the paper's 16 models; None where the question makes no sense.
        notes: What a user should know.
        unavailable: Why the model is not available any more; None if it is.
        options: The other keys.
    """

    name: str
    provider: str = ""
    target: str = ""
    revision: str | None = None
    kind: ModelKind | None = None
    aliases: tuple[str, ...] = ()
    licence: str | None = None
    open: bool | None = None
    in_paper: bool | None = None
    notes: str | None = None
    unavailable: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedScores:
    """The scores that the TrustLLM authors published.

    Attributes:
        source: Where they were published.
        metrics: Metric id -> whether higher is better.
        scores: Model -> metric id -> value; None if it was not reported.
        in_paper: The models of the paper; the leaderboard added the others later.
    """

    source: str
    metrics: Mapping[str, bool]
    scores: Mapping[str, Mapping[str, float | None]]
    in_paper: frozenset[str]


@cache
def published_scores() -> PublishedScores:
    """Return the published scores of 21 models on the headline metrics, under this package's metric ids."""
    document = json.loads(paths.packaged("models", "leaderboard.json").read_text(encoding="utf-8"))
    models = document["models"]
    higher_is_better = {name: metric["higher_is_better"] for name, metric in document["metrics"].items()}
    scores = {name: MappingProxyType(model["scores"]) for name, model in models.items()}
    return PublishedScores(
        source=document["source"],
        metrics=MappingProxyType(higher_is_better),
        scores=MappingProxyType(scores),
        in_paper=frozenset(name for name, model in models.items() if model["in_paper"]),
    )


def provider_of(spec: ModelSpec, registry: Registry) -> Provider:
    """Return the provider that checks and loads a model.

    Raises:
        ModelError: It is unknown, or cannot be imported.
    """
    return _provider(spec.provider, registry)


def list_entries(user_file: Path | None, registry: Registry) -> list[ModelEntry]:
    """Return every entry: the user's, then the shipped ones that the user's file does not replace.

    Raises:
        ModelError: The user's file has a mistake.
    """
    user_entries = _read_user_file(user_file, registry)
    # An entry is listed once, and not again under its other names
    entries = [entry for name, entry in user_entries.items() if entry.name == name]
    for name, place in _shipped()["models"].items():
        if name not in user_entries:
            entries.append(_read_entry(name, place, registry))
    return entries


def resolve(name: str, *, user_file: Path | None, registry: Registry, kind: ModelKind = "chat") -> ModelSpec:
    """Return the model that a name refers to.

    Args:
        name: A name of the user's models file or of a shipped model, or an inline name such as ``hf:gpt2``.
        user_file: The user's models file, which takes precedence.
        registry: Knows the providers.
        kind: What the model will be used as.

    Raises:
        ModelError: The name is unknown, its entry has a mistake, or the model is of another kind.
    """
    user_entries = _read_user_file(user_file, registry)
    if user_file is not None and name in user_entries:
        return _spec(name, user_entries[name], kind, user_file.resolve().parent, registry)
    inline = _inline_entry(name, registry)
    if inline is not None:
        _check_no_secret(inline)
        return _spec(name, inline, kind, Path.cwd(), registry)
    key = _shipped_names().get(name)
    if key is None:
        raise ModelError(_unknown(name, user_entries, registry, kind))
    entry = _read_entry(key, _shipped()["models"][key], registry)
    return _spec(name, entry, kind, Path.cwd(), registry)


def why_unknown(name: str, *, user_file: Path | None, registry: Registry) -> str | None:
    """Return why a name does not refer to a model; None if it does, even to one that is not available any more."""
    user_entries = _read_user_file(user_file, registry)
    if name in user_entries or name in _shipped_names() or _is_bare_provider(name, registry):
        return None
    prefix, colon, _ = name.partition(":")
    if colon and (prefix in registry.providers or prefix in _shipped()["vendors"].value):
        return None
    return _unknown(name, user_entries, registry, "chat")


def _provider(name: str, registry: Registry) -> Provider:
    try:
        registered = registry.providers.get(name)
    except TrustLLMError as e:
        raise ModelError(f"models: {e}") from None
    except ImportError as e:
        raise ModelError(f"models: provider {name!r} cannot be imported: {one_line(e)}") from None
    # A plugin may register a class or an instance
    provider: Provider = registered() if isinstance(registered, type) else registered
    return provider


def _is_bare_provider(name: str, registry: Registry) -> bool:
    """Return whether a name is that of a provider with a single model, such as ``rules``."""
    return name in registry.providers and not _provider(name, registry).form


def _inline_entry(name: str, registry: Registry) -> ModelEntry | None:
    """Return the entry that an inline name amounts to; None if it is not an inline name."""
    prefix, colon, target = name.partition(":")
    if not colon and not _is_bare_provider(name, registry):
        return None
    if prefix in registry.providers:
        return _inline_provider_entry(name, prefix, target, registry)
    vendor = _shipped()["vendors"].get(prefix)
    if vendor is None:
        return None
    unavailable = vendor.get("unavailable")
    if unavailable is not None:
        return ModelEntry(name, unavailable=unavailable.text())
    if not target.strip():
        raise ModelError(f"models: {name!r} does not name a model; write '{prefix}:<model>'")
    return ModelEntry(name, "openai", target, options=_vendor_options(vendor, _provider("openai", registry)))


def _inline_provider_entry(name: str, provider: str, target: str, registry: Registry) -> ModelEntry:
    form = _provider(provider, registry).form
    if form and not target.strip():
        raise ModelError(f"models: {name!r} does not name a model; write '{provider}:{form}'")
    if target and not form:
        raise ModelError(f"models: {name!r}: nothing can follow {provider!r}; write '{provider}'")
    revision = None
    if "[@revision]" in form:
        target, revision = _split_revision(target)
    return ModelEntry(name, provider, target or provider, revision)


def _check_no_secret(entry: ModelEntry) -> None:
    """Refuse a name that holds a key: it is part of ids, files and reports."""
    secret = named_secret(entry.target)
    if secret is not None:
        raise ModelError(
            f"models: the name '{entry.provider}:...' on the command line holds a secret ({one_line(secret, 40)}), "
            "which every report would show; write an entry in the models file, with api_key_env or base_url_env"
        )


def _split_revision(target: str) -> tuple[str, str | None]:
    """Split ``repo@revision``; an ``@`` in the path of an existing directory belongs to the path."""
    if is_directory(Path(target).expanduser()):
        return target, None
    repo, _, revision = target.rpartition("@")
    if repo and revision and "/" not in revision:
        return repo, revision
    return target, None


def _spec(name: str, entry: ModelEntry, kind: ModelKind, base: Path, registry: Registry) -> ModelSpec:
    if entry.unavailable is not None:
        raise ModelError(f"models: {name!r} is not available: {entry.unavailable}")
    provider = _provider(entry.provider, registry)
    kinds = _kinds_of(entry, registry)
    if kind not in kinds:
        possible = " or ".join(_KIND_IN_WORDS[k] for k in MODEL_KINDS if k in kinds)
        raise ModelError(f"models: {name!r} is {possible}; expected {_KIND_IN_WORDS[kind]}")
    target = provider.locate(entry.target, base)
    return ModelSpec(name, entry.provider, target, entry.revision, kind, entry.options)


@cache
def _shipped() -> Place:
    document = read_document(paths.packaged("models", "models.yaml"), "models.yaml", ModelError)
    return document.mapping(("vendors", "models"))


@cache
def _shipped_names() -> Mapping[str, str]:
    """Return every name of a shipped model -> the key of its entry."""
    keys: dict[str, str] = {}
    for key, place in _shipped()["models"].items():
        keys[key] = key
        aliases = place.get("aliases")
        if aliases is not None:
            keys.update(dict.fromkeys(aliases.texts(), key))
    return keys


def _read_user_file(file: Path | None, registry: Registry) -> dict[str, ModelEntry]:
    """Return every name in the user's file -> its entry, all checked."""
    entries: dict[str, ModelEntry] = {}
    if file is None:
        return entries
    for key, place in read_document(file, paths.shown(file, Path.cwd()), ModelError).items():
        entry = _read_entry(key, place, registry)
        for name in (key, *entry.aliases):
            if name in entries:
                raise place.fail(f"the name {name!r} is given twice")
            entries[name] = entry
    return entries


def _read_entry(name: str, place: Place, registry: Registry) -> ModelEntry:
    vendors = _shipped()["vendors"]
    provider_place = place.mapping().get("provider")
    unavailable = place.get("unavailable")
    provider_name = ""
    if provider_place is not None:
        provider_name = provider_place.choice((*registry.providers, *vendors.value))
    elif unavailable is None:
        raise place.fail("key 'provider' is missing")
    vendor = vendors.get(provider_name)
    if vendor is not None:
        provider_name = "openai"  # vendors are addresses of OpenAI-compatible APIs
        unavailable = unavailable or vendor.get("unavailable")
    provider = _provider(provider_name, registry) if provider_name else None
    values = _entry_table(provider, needs_model=unavailable is None)(place)

    model_options: dict[str, Any] = {}
    if vendor is not None and provider is not None:
        model_options.update(_vendor_options(vendor, provider))
    option_keys = _option_keys(provider)
    model_options.update({key: values[key] for key in place.value if key in option_keys})

    target = ""
    if provider is not None and not provider.form:
        target = provider_name
    elif unavailable is None:
        target = values["model"]
    return ModelEntry(
        name=name,
        provider=provider_name,
        target=target,
        unavailable=None if unavailable is None else unavailable.text(),
        options=model_options,
        **{key: values[key] for key in ("revision", "kind", "aliases", "licence", "open", "in_paper", "notes")},
    )


def _entry_table(provider: Provider | None, *, needs_model: bool) -> Table:
    """Return what an entry may contain.

    Args:
        provider: The model's provider; None: it has none, because it is not available any more.
        needs_model: The entry must say which of the provider's models it is, if the provider has several.
    """
    keys = dict(options.ENTRY_KEYS)
    if provider is None:
        return Table(keys)
    keys["model"] = dataclasses.replace(keys["model"], required=needs_model and bool(provider.form))
    for name, reader in provider.options.items():
        keys[name] = reader if isinstance(reader, Key) else Key(reader, "")
    return Table(keys)


def _option_keys(provider: Provider | None) -> tuple[str, ...]:
    """Return the keys of an entry that become options of the model."""
    if provider is None:
        return options.MODEL_OPTIONS
    return (*provider.options, *options.MODEL_OPTIONS)


def _vendor_options(vendor: Place, provider: Provider) -> dict[str, Any]:
    return {key: provider.options[key](value) for key, value in vendor.items() if key in provider.options}


def models_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of a user's models file."""
    vendors = _shipped()["vendors"].value
    common = _entry_table(None, needs_model=False).schema()
    provider = {**common["properties"]["provider"], **open_words((*registry.providers, *vendors))}
    cases = [_provider_case(name, vendors, registry) for name in registry.providers]
    without_provider = {"properties": {"provider": False}}
    cases.append({"if": without_provider, "then": {**common, "required": ["unavailable"]}})
    properties = {**common["properties"], "provider": provider}
    entry = {"type": "object", "properties": properties, "allOf": cases}
    return {"type": "object", "additionalProperties": entry}


def _provider_case(name: str, vendors: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Return the part of the schema that applies to entries of one provider."""
    provider = _provider(name, registry)
    entry = _entry_table(provider, needs_model=False).schema()
    if provider.form:
        unavailable_vendors = [vendor for vendor, keys in vendors.items() if "unavailable" in keys]
        entry["anyOf"] = [
            {"required": ["model"]},
            {"required": ["unavailable"]},
            {"properties": {"provider": {"enum": unavailable_vendors}}},
        ]
    names = [name]
    if name == "openai":
        names += vendors
    return {"if": {"properties": {"provider": {"enum": names}}, "required": ["provider"]}, "then": entry}


def _unknown(name: str, user_entries: Mapping[str, ModelEntry], registry: Registry, kind: ModelKind) -> str:
    entries = dict(user_entries)
    for shipped, key in _shipped_names().items():
        entries.setdefault(shipped, _read_entry(key, _shipped()["models"][key], registry))
    names = {other for other, entry in entries.items() if kind in _kinds_of(entry, registry)}
    names.update(other for other in registry.providers if _is_bare_provider(other, registry))
    names -= {other for other in registry.providers if kind not in _provider(other, registry).kinds}
    close_names = suggest(name, names).partition(";")[0]
    shown = one_line(repr(without_url_secrets(name)), 80)
    return f"models: no model named {shown}{close_names}; {accepted_names(registry, kind)}"


def _kinds_of(entry: ModelEntry, registry: Registry) -> frozenset[ModelKind]:
    if entry.kind is not None:
        return frozenset((entry.kind,))
    if entry.unavailable is not None:  # it has no provider any more
        return frozenset(("chat",))
    return _provider(entry.provider, registry).kinds


def accepted_names(registry: Registry, kind: ModelKind | None = None) -> str:
    """Return the forms that a model's name can have, for messages and help.

    Args:
        registry: Knows the providers.
        kind: Leave out what no model of this kind is called; None: nothing.
    """
    inline: list[str] = []
    bare: list[str] = []
    for name in registry.providers:
        if name == "server":
            continue  # its command does not fit into a name
        provider = _provider(name, registry)
        if kind is not None and kind not in provider.kinds:
            continue
        if provider.form:
            inline.append(f"{name}:{provider.form}")
        else:
            bare.append(name)
    return "accepted: a name that 'pytest-trustllm models' lists, " + ", ".join([*inline, *bare])
