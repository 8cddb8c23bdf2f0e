"""Flags and ini keys, read once into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_trustllm import budget, shards
from pytest_trustllm.budget import Limit
from pytest_trustllm.plugin.options import model_names
from pytest_trustllm.shards import Shard


@dataclass(frozen=True, slots=True)
class Settings:
    """What command line and ini file say.

    Attributes are named as the flags are; see ``pytest --help``.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    data: str
    limit: int | None
    shard: Shard | None
    seed: int
    epochs: int
    judge_votes: int
    judge_checks: tuple[Path, ...]
    thresholds: Path | None
    gate_tags: str
    baseline: Path | None
    baseline_any_model: bool
    roles: dict[str, str]
    results: Path | None
    report: Path | None
    show_content: bool
    store: Path
    fresh: bool
    offline: bool
    strict: bool
    batch_size: int | None
    max_concurrency: int | None
    budget: tuple[Limit, ...]
    device: str
    suite_directories: tuple[Path, ...]
    builtin_suites: bool
    models_file: Path | None


def read_settings(config: pytest.Config) -> Settings:
    """Read everything.

    Raises:
        pytest.UsageError: A value is not what its flag accepts.
        BudgetError: The same, of ``--trust-budget``.
    """
    roles = {
        "judge": _text(config, "judge"),
        "refusal": _text(config, "refusal_classifier") or "rules",
        "embedder": _text(config, "embedder"),
        "toxicity": _text(config, "toxicity"),
    }
    batch = _text(config, "batch_size")
    models = model_names(config)
    if len(set(models)) < len(models):
        raise pytest.UsageError("--trust-model: the same model is given twice")
    return Settings(
        models=models,
        suites=tuple(config.getoption("trust_suite") or config.getini("trust_suite")),
        data=_data(config),
        limit=_number(config, "limit", 1),
        shard=_shard(config),
        seed=_number(config, "seed", 0) or 0,
        epochs=_number(config, "epochs", 1) or 1,
        judge_votes=_number(config, "judge_votes", 1) or 1,
        judge_checks=_paths(config, "judge_check"),
        thresholds=_path(config, "thresholds"),
        gate_tags=_text(config, "gate_tags") or "",
        baseline=_path(config, "baseline"),
        baseline_any_model=_flag(config, "baseline_any_model"),
        roles={role: name for role, name in roles.items() if name is not None},
        results=_output(config, "results", ".json"),
        report=_output(config, "report", ".html"),
        show_content=_flag(config, "show_content"),
        store=_store(config),
        fresh=_flag(config, "fresh"),
        offline=_flag(config, "offline"),
        strict=_flag(config, "strict"),
        batch_size=None if batch in (None, "auto") else _number(config, "batch_size", 1),
        max_concurrency=_number(config, "max_concurrency", 1),
        budget=_budget(config),
        device=_text(config, "device") or "auto",
        suite_directories=_suite_directories(config),
        builtin_suites=_ini_flag(config, "trust_builtin_suites"),
        models_file=_ini_path(config, "trust_models"),
    )


def _text(config: pytest.Config, name: str) -> str | None:
    return config.getoption(f"trust_{name}") or config.getini(f"trust_{name}") or None


def _flag(config: pytest.Config, name: str) -> bool:
    given = config.getoption(f"trust_{name}")
    return _ini_flag(config, f"trust_{name}") if given is None else bool(given)


def _ini_flag(config: pytest.Config, key: str) -> bool:
    try:
        return bool(config.getini(key))
    except (ValueError, pytest.UsageError) as e:  # pytest says what it found, and not where
        raise pytest.UsageError(f"{key}: expected true or false: {e}") from None


def _number(config: pytest.Config, name: str, low: int) -> int | None:
    text = _text(config, name)
    if text is None:
        return None
    flag = f"--trust-{name.replace('_', '-')}"
    try:
        found = int(text)
    except ValueError:
        raise pytest.UsageError(f"{flag}: expected a whole number, found {text!r}") from None
    if found < low:
        raise pytest.UsageError(f"{flag}: expected at least {low}, found {found}")
    return found


def _shard(config: pytest.Config) -> Shard | None:
    text = _text(config, "shard")
    return None if text is None else shards.parse(text)


def _budget(config: pytest.Config) -> tuple[Limit, ...]:
    text = _text(config, "budget")
    return () if text is None else budget.parse(text)


def _path(config: pytest.Config, name: str) -> Path | None:
    """Return a path: from the command line relative to the current directory, from an ini file to the rootdir."""
    given: str | None = config.getoption(f"trust_{name}")
    if given:
        return _here(config, given)
    return _ini_path(config, f"trust_{name}")


def _here(config: pytest.Config, path: str) -> Path:
    return Path(os.path.normpath(config.invocation_params.dir / path))


def _paths(config: pytest.Config, name: str) -> tuple[Path, ...]:
    given: Sequence[str] | None = config.getoption(f"trust_{name}")
    if given:
        return tuple(_here(config, path) for path in given)
    return tuple(config.rootpath / line for line in config.getini(f"trust_{name}"))


def _ini_path(config: pytest.Config, key: str) -> Path | None:
    text = config.getini(key)
    return config.rootpath / text if text else None


def _data(config: pytest.Config) -> str:
    if _text(config, "data") in (None, "sample", "full"):
        return _text(config, "data") or "sample"
    return str(_path(config, "data"))


def _output(config: pytest.Config, name: str, suffix: str) -> Path | None:
    path = _path(config, name)
    if path is None:
        return None
    if path.is_dir() or path.suffix != suffix:
        raise pytest.UsageError(f"--trust-{name}: expected a file name that ends in {suffix}, found {path}")
    return path


def _store(config: pytest.Config) -> Path:
    path = _path(config, "store") or config.rootpath / ".trustllm"
    if path.exists() and not path.is_dir():
        raise pytest.UsageError(f"--trust-store: {path} is not a directory")
    return path


def _suite_directories(config: pytest.Config) -> tuple[Path, ...]:
    given = [config.rootpath / line for line in config.getini("trust_suites")]
    default = config.rootpath / "suites"
    return tuple(given) if given else (default,) if default.is_dir() else ()
