"""A name on the command line becomes a model spec: aliases, the user's models file, inline names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_trustllm import paths
from pytest_trustllm.documents import Place, read_document
from pytest_trustllm.errors import ModelError, TrustLLMError, one_line, suggest
from pytest_trustllm.models import options
from pytest_trustllm.models.base import KINDS, Kind, ModelSpec, Provider
from pytest_trustllm.registry import Registry
from pytest_trustllm.shapes import Key, Table, open_words

_ROLE = {"chat": "a chat model", "classifier": "a classifier", "embedder": "an embedder", "rater": "a toxicity rater"}


@dataclass(frozen=True, slots=True)
class Alias:
    """One entry of a models file.

    Attributes:
        name: Its key.
        provider: Registered provider; empty if the model is not available.
        target: What the provider understands.
        revision: Hub revision.
        kind: What alone it can be asked for; None: whatever the provider makes of it.
        aliases: Other names.
        licence: Licence of the weights, or ``proprietary``.
        open: The weights can be downloaded.
        in_paper: One of the paper's 16 models; None where the question makes no sense.
        notes: What a user should know.
        unavailable: Why it cannot be asked any more.
        options: The other keys.
    """

    name: str
    provider: str = ""
    target: str = ""
    revision: str | None = None
    kind: Kind | None = None
    aliases: tuple[str, ...] = ()
    licence: str | None = None
    open: bool | None = None
    in_paper: bool | None = None
    notes: str | None = None
    unavailable: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The published scores.

    Attributes:
        source: Where they were published.
        metrics: Metric id -> higher is better.
        scores: Model -> metric id -> value; None: not reported.
        in_paper: The models of the paper; the others were added later.
    """

    source: str
    metrics: Mapping[str, bool]
    scores: Mapping[str, Mapping[str, float | None]]
    in_paper: frozenset[str]


@cache
def published() -> Leaderboard:
    """Return the published scores of 21 models on the headline metrics; the keys are our metric ids."""
    found = json.loads(paths.packaged("models", "leaderboard.json").read_text(encoding="utf-8"))
    models = found["models"]
    return Leaderboard(
        source=found["source"],
        metrics=MappingProxyType({name: m["higher_is_better"] for name, m in found["metrics"].items()}),
        scores=MappingProxyType({name: MappingProxyType(m["scores"]) for name, m in models.items()}),
        in_paper=frozenset(name for name, m in models.items() if m["in_paper"]),
    )


def provider_of(spec: ModelSpec, registry: Registry) -> Provider:
    """Return the provider that checks and loads a model."""
    return _provider(spec.provider, registry)


def listing(user_file: Path | None, registry: Registry) -> list[Alias]:
    """Return every entry, the user's before the shipped ones that it does not replace.

    Raises:
        ModelError: The user's file is not usable.
    """
    own = _user(user_file, registry)
    shipped = [_alias(name, place, registry) for name, place in _shipped()["models"].items() if name not in own]
    return [*(alias for name, alias in own.items() if alias.name == name), *shipped]


def resolve(name: str, *, user_file: Path | None, registry: Registry, kind: Kind = "chat") -> ModelSpec:
    """Return the model that a name stands for.

    Args:
        name: An alias of the user's file or of the shipped one, or an inline name such as ``hf:gpt2``.
        user_file: The user's models file, whose entries win.
        registry: Knows the providers.
        kind: What the model will be asked for.

    Raises:
        ModelError: The name is unknown, the entry is wrong, or the model cannot do what it is asked for.
    """
    own = _user(user_file, registry)
    if name in own and user_file is not None:
        return _spec(name, own[name], kind, user_file.resolve().parent, registry)
    head, colon, rest = name.partition(":")
    if colon or _is_bare(name, registry):
        inline = _inline(name, head, rest, registry)
        if inline is not None:
            return _spec(name, inline, kind, Path.cwd(), registry)
    if name not in _synonyms():
        raise ModelError(_unknown(name, own, registry))
    entry = _synonyms()[name]
    return _spec(name, _alias(entry, _shipped()["models"][entry], registry), kind, Path.cwd(), registry)


def _provider(name: str, registry: Registry) -> Provider:
    try:
        found = registry.providers.get(name)
    except TrustLLMError as e:
        raise ModelError(f"models: {e}") from None
    except ImportError as e:
        raise ModelError(f"models: provider {name!r} cannot be imported: {one_line(e)}") from None
    provider: Provider = found() if isinstance(found, type) else found
    return provider


def _is_bare(name: str, registry: Registry) -> bool:
    return name in registry.providers and not _provider(name, registry).form


def _inline(name: str, head: str, rest: str, registry: Registry) -> Alias | None:
    vendor = _shipped()["vendors"].get(head)
    if head in registry.providers:
        form = _provider(head, registry).form
        if form and not rest.strip():
            raise ModelError(f"models: {name!r} names no model; write '{head}:{form}'")
        if rest and not form:
            raise ModelError(f"models: {name!r}: nothing can follow {head!r}; write '{head}'")
        target, revision = _split_revision(rest) if head == "hf" else (rest, None)
        return Alias(name, head, target or head, revision)
    if vendor is None:
        return None
    reason = vendor.get("unavailable")
    if reason is not None:
        return Alias(name, unavailable=reason.text())
    if not rest.strip():
        raise ModelError(f"models: {name!r} names no model; write '{head}:<model>'")
    return Alias(name, "openai", rest, options=_options(vendor, _provider("openai", registry)))


def _split_revision(target: str) -> tuple[str, str | None]:
    """Split ``repo@revision``; an ``@`` in the path of an existing directory belongs to the path."""
    if Path(target).expanduser().is_dir():
        return target, None
    repo, at, revision = target.rpartition("@")
    return (repo, revision) if at and repo and revision and "/" not in revision else (target, None)


def _spec(name: str, alias: Alias, kind: Kind, base: Path, registry: Registry) -> ModelSpec:
    if alias.unavailable is not None:
        raise ModelError(f"models: {name!r} cannot be asked: {alias.unavailable}")
    provider = _provider(alias.provider, registry)
    kinds = provider.kinds if alias.kind is None else frozenset((alias.kind,))
    if kind not in kinds:
        can = " or ".join(_ROLE[k] for k in KINDS if k in kinds)
        raise ModelError(f"models: {name!r} is {can}; asked for is {_ROLE[kind]}")
    target = provider.locate(alias.target, base)
    return ModelSpec(name, alias.provider, target, alias.revision, kind, alias.options)


@cache
def _shipped() -> Place:
    found = read_document(paths.packaged("models", "models.yaml"), "models.yaml", ModelError)
    return found.mapping(("vendors", "models"))


@cache
def _synonyms() -> Mapping[str, str]:
    """Return every shipped name -> the key of its entry."""
    found: dict[str, str] = {}
    for name, place in _shipped()["models"].items():
        other = place.get("aliases")
        for synonym in (name, *(other.texts() if other else ())):
            found[synonym] = name
    return found


def _user(file: Path | None, registry: Registry) -> dict[str, Alias]:
    """Return every name of the user's file -> its entry, all checked."""
    if file is None:
        return {}
    found: dict[str, Alias] = {}
    for name, place in read_document(file, paths.shown(file, Path.cwd()), ModelError).items():
        alias = _alias(name, place, registry)
        for synonym in (name, *alias.aliases):
            if synonym in found:
                raise place.fail(f"the name {synonym!r} is given twice")
            found[synonym] = alias
    return found


def _alias(name: str, place: Place, registry: Registry) -> Alias:
    vendors = _shipped()["vendors"]
    named = place.mapping().get("provider")
    if named is None and place.get("unavailable") is None:
        raise place.fail("key 'provider' is missing")
    provider_name = named.choice((*registry.providers, *vendors.value)) if named is not None else ""
    vendor = vendors.get(provider_name)
    provider_name = "openai" if vendor is not None else provider_name
    provider = _provider(provider_name, registry) if provider_name else None
    gone = place.get("unavailable") or (vendor.get("unavailable") if vendor is not None else None)
    values = _entry(provider, asked=gone is None)(place)
    bare = provider is not None and not provider.form
    return Alias(
        name=name,
        provider=provider_name,
        target=provider_name if bare else values["model"] if gone is None else "",
        unavailable=None if gone is None else gone.text(),
        options={
            **(_options(vendor, provider) if vendor is not None and provider is not None else {}),
            **{key: values[key] for key in place.value if key in _kept(provider)},
        },
        **{key: values[key] for key in ("revision", "kind", "aliases", "licence", "open", "in_paper", "notes")},
    )


def _entry(provider: Provider | None, *, asked: bool) -> Table:
    """Return what an entry may hold.

    Args:
        provider: Of the model; None: it has none, because it cannot be asked.
        asked: The model can be asked, so the entry must name it.
    """
    own = provider.options if provider is not None else {}
    needed = asked and provider is not None and bool(provider.form)
    keys = {key: reader if isinstance(reader, Key) else Key(reader, "") for key, reader in own.items()}
    return Table({**options.COMMON, "model": dataclasses.replace(options.COMMON["model"], required=needed), **keys})


def _kept(provider: Provider | None) -> tuple[str, ...]:
    """Return the keys of an entry that the provider gets."""
    return (*(provider.options if provider is not None else ()), "price", "licence")


def _options(vendor: Place, provider: Provider) -> dict[str, Any]:
    return {key: provider.options[key](value) for key, value in vendor.items() if key in provider.options}


def models_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of a user's models file."""
    vendors = _shipped()["vendors"].value
    gone = [name for name, vendor in vendors.items() if "unavailable" in vendor]
    common = _entry(None, asked=False).schema()
    provider = {**common["properties"]["provider"], **open_words((*registry.providers, *vendors))}
    cases = []
    for name in registry.providers:
        found = _provider(name, registry)
        entry = _entry(found, asked=False).schema()
        if found.form:
            known_gone = {"properties": {"provider": {"enum": gone}}}
            entry["anyOf"] = [{"required": ["model"]}, {"required": ["unavailable"]}, known_gone]
        names = [name, *(vendors if name == "openai" else ())]
        cases.append({"if": {"properties": {"provider": {"enum": names}}, "required": ["provider"]}, "then": entry})
    cases.append({"if": {"properties": {"provider": False}}, "then": {**common, "required": ["unavailable"]}})
    entries = {"type": "object", "properties": {**common["properties"], "provider": provider}, "allOf": cases}
    return {"type": "object", "additionalProperties": entries}


def _unknown(name: str, own: Mapping[str, Alias], registry: Registry) -> str:
    known = {*own, *_synonyms(), *(p for p in registry.providers if _is_bare(p, registry))}
    close = suggest(name, known).partition(";")[0]
    return f"models: no model named {one_line(repr(name), 80)}{close}; {accepted(registry)}"


def accepted(registry: Registry) -> str:
    """Return the forms of a model's name, for messages and help."""
    inline: list[str] = []
    bare: list[str] = []
    for name in registry.providers:
        form = _provider(name, registry).form
        (inline if form else bare).append(f"{name}:{form}" if form else name)
    return "accepted: a name that 'pytest-trustllm models' lists, " + ", ".join([*inline, *bare])
