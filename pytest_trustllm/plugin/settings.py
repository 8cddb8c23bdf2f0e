"""Flags and ini keys, read once into one frozen value."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pytest_trustllm import extensions
from pytest_trustllm.config import paths
from pytest_trustllm.config.paths import exists, is_directory
from pytest_trustllm.engine import budget
from pytest_trustllm.engine.budget import Limit
from pytest_trustllm.extensions import SuitePackage
from pytest_trustllm.gates.stopping import Stop, parse_stop
from pytest_trustllm.plugin import options
from pytest_trustllm.plugin.options import model_names
from pytest_trustllm.results import history
from pytest_trustllm.suites import shards
from pytest_trustllm.suites.parallel_jobs import shard_of_job
from pytest_trustllm.suites.shards import Shard

BATCH_CHOICES: tuple[Literal["submit", "wait"], ...] = ("submit", "wait")
_MOST_EPOCHS = 1_000
_REPLAYED = 5
"""Samples that an audit asks again."""
BLOCKED_CHOICES: tuple[Literal["refusal", "unscored"], ...] = ("refusal", "unscored")


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of flags and ini keys.

    Attributes are named after the flags; see ``pytest --help``.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    licences: tuple[str, ...]
    data: str
    card: Path | Literal["hub"] | None
    audit: Path | None
    audit_only: bool
    audit_key: Path | None
    replay: int
    limit: int | None
    shard: Shard | None
    seed: int
    epochs: int
    judge_votes: int
    judge_checks: tuple[Path, ...]
    thresholds: Path | None
    gate_tags: str
    blocked: Literal["refusal", "unscored"]
    baseline: Path | None
    baseline_any_model: bool
    base_model: str | None
    roles: dict[str, str]
    results: Path | None
    report: Path | None
    history: Path | None
    show_content: bool
    store: Path
    fresh: bool
    offline: bool
    strict: bool
    in_process: bool
    batch: Literal["submit", "wait"] | None
    batch_size: int | None
    max_concurrency: int | None
    budget: tuple[Limit, ...]
    plan: bool
    stop: Stop | None
    stop_ungated: bool
    device: str
    cluster: str | None
    suite_directories: tuple[Path, ...]
    suite_packages: tuple[SuitePackage, ...]
    builtin_suites: bool
    allow_outside: bool
    models_file: Path | None
    narrowed: bool


def read_settings(config: pytest.Config) -> Settings:
    """Read all flags and ini keys.

    Raises:
        pytest.UsageError: A flag does not accept its value.
        BudgetError: ``--trust-budget`` does not accept its value.
        GateError: ``--trust-stop`` does not accept its value.
        ResultsError: ``--trust-history`` names what cannot be a history.
    """
    roles = {
        "judge": _text(config, "judge"),
        "refusal": _text(config, "refusal_classifier") or "builtin",
        "embedder": _text(config, "embedder"),
        "toxicity": _text(config, "toxicity"),
        "guard": _text(config, "guard"),
        "simulator": _text(config, "simulator"),
    }
    directories, packages = _suite_places(config)
    models = model_names(config)
    if len(set(models)) < len(models):
        raise pytest.UsageError("--trust-model: the same model is given twice")
    return Settings(
        models=models,
        suites=_suites(config, directories, packages),
        licences=_licences(config),
        data=_data(config),
        card=_card(config),
        audit=_audit(config),
        audit_only=_is_audit_only(config),
        audit_key=_audit_key(config),
        replay=_replay(config),
        limit=_number(config, "limit", 1),
        shard=_shard(config),
        seed=_number(config, "seed", 0) or 0,
        epochs=_number(config, "epochs", 1, _MOST_EPOCHS) or 1,
        judge_votes=_number(config, "judge_votes", 1) or 1,
        judge_checks=_paths(config, "judge_check"),
        thresholds=_path(config, "thresholds"),
        gate_tags=_text(config, "gate_tags") or "",
        blocked=_blocked(config),
        baseline=_path(config, "baseline"),
        baseline_any_model=_flag(config, "baseline_any_model"),
        base_model=_base_model(config, models),
        roles={role: name for role, name in roles.items() if name is not None},
        results=_output(config, "results", ".json"),
        report=_output(config, "report", ".html"),
        history=_history(config),
        show_content=_flag(config, "show_content"),
        store=_store(config),
        fresh=_fresh(config),
        offline=_flag(config, "offline"),
        strict=_flag(config, "strict"),
        in_process=_in_process(config),
        batch=_batch(config),
        batch_size=_batch_size(config),
        max_concurrency=_number(config, "max_concurrency", 1),
        budget=_budget(config),
        plan=_flag(config, "plan"),
        stop=_stop(config),
        stop_ungated=_flag(config, "stop_ungated"),
        device=_text(config, "device") or "auto",
        cluster=_text(config, "cluster") or None,
        suite_directories=directories,
        suite_packages=packages,
        builtin_suites=_ini_flag(config, "trust_builtin_suites"),
        allow_outside=_ini_flag(config, "trust_allow_outside"),
        models_file=_ini_path(config, "trust_models"),
        narrowed=_narrowed(config),
    )


_NARROWING = ("keyword", "markexpr", "deselect", "lf", "stepwise", "ignore", "ignore_glob")
_OWN_NARROWING = ("trust_suite", "trust_limit", "trust_shard", "trust_licences")


def _narrowed(config: pytest.Config) -> bool:
    """Return whether an option leaves out a part of the tests; what paths leave out, the run's state knows."""
    if any(config.getini(name) for name in _OWN_NARROWING):
        return True
    return any(config.getoption(name, None) for name in (*_NARROWING, *_OWN_NARROWING))


def _text(config: pytest.Config, name: str) -> str | None:
    """Return the text of a flag, else of its ini key; None if neither is given."""
    return config.getoption(f"trust_{name}") or config.getini(f"trust_{name}") or None


def _blocked(config: pytest.Config) -> Literal["refusal", "unscored"]:
    text = _text(config, "blocked") or "refusal"
    for choice in BLOCKED_CHOICES:
        if text == choice:
            return choice
    raise pytest.UsageError(f"--trust-blocked: {text!r} is not known; write refusal or unscored")


def _licences(config: pytest.Config) -> tuple[str, ...]:
    """Return the licences that are allowed; none: all are.

    Raises:
        pytest.UsageError: The option is given and names none, such as a variable of a CI job that is not set.
    """
    flag = config.getoption("trust_licences")
    text = config.getini("trust_licences") if flag is None else flag
    patterns = tuple(pattern.strip() for pattern in text.split(",") if pattern.strip())
    if not patterns and (text or flag is not None):
        raise pytest.UsageError("--trust-licences: expected licences, such as 'MIT, CC-BY-*', found nothing")
    return patterns


def _base_model(config: pytest.Config, models: Sequence[str]) -> str | None:
    """Return the bare model behind the app.

    Raises:
        pytest.UsageError: Another option contradicts it.
    """
    name = _text(config, "base_model")
    if name is None:
        return None
    if len(models) > 1:
        raise pytest.UsageError("--trust-base-model: give one --trust-model, the app that is built on it")
    for flag, why in _NO_BASE_MODEL.items():
        if _text(config, flag) is not None:
            raise pytest.UsageError(f"--trust-base-model: {why}; leave out --trust-{flag} or this option")
    return name


_NO_BASE_MODEL = {
    "stop": "both are asked the same samples, so none may be left out",
    "batch": "the batches of two models are not done at the same time",
    "shard": "the parts of a run are merged without its base model",
}
"""Option that contradicts it -> why."""


def _batch(config: pytest.Config) -> Literal["submit", "wait"] | None:
    text = _text(config, "batch")
    if text is None:
        return None
    for choice in BATCH_CHOICES:
        if text == choice:
            _check_batch(config)
            return choice
    raise pytest.UsageError(f"--trust-batch: {text!r} is not known; write submit or wait")


def _check_batch(config: pytest.Config) -> None:
    """Refuse options that contradict batches.

    Raises:
        pytest.UsageError: There is one.
    """
    if _flag(config, "offline"):
        raise pytest.UsageError("--trust-batch: --trust-offline forbids requests; leave one of them out")
    if _flag(config, "fresh"):
        raise pytest.UsageError(
            "--trust-batch: --trust-fresh ignores answers of earlier runs, and so those of their batches; "
            "leave it out, and use another --trust-store to send everything again"
        )


def _fresh(config: pytest.Config) -> bool:
    """Return whether every request is sent again.

    Raises:
        pytest.UsageError: No request may be sent.
    """
    is_fresh = _flag(config, "fresh")
    if is_fresh and _flag(config, "offline"):
        raise pytest.UsageError(
            "--trust-fresh: --trust-offline forbids the requests that it sends again; leave one of them out"
        )
    return is_fresh


def _in_process(config: pytest.Config) -> bool:
    """Return whether the host runs in this process, as a debugger needs it.

    Raises:
        pytest.UsageError: The tests run in xdist workers, which no terminal reaches.
    """
    in_process = options.runs_in_process(config, config.option)
    if in_process and config.getoption("dist", "no") != "no":
        raise pytest.UsageError("--trust-in-process: tests of xdist workers cannot be debugged; run without -n")
    return in_process


def _flag(config: pytest.Config, name: str) -> bool:
    on_command_line = config.getoption(f"trust_{name}")
    if on_command_line is None:
        return _ini_flag(config, f"trust_{name}")
    return bool(on_command_line)


def _ini_flag(config: pytest.Config, key: str) -> bool:
    try:
        return bool(config.getini(key))
    except (ValueError, pytest.UsageError) as e:  # pytest reports the value, but not the key
        raise pytest.UsageError(f"{key}: expected true or false: {e}") from None


def _number(config: pytest.Config, name: str, low: int, high: float = math.inf) -> int | None:
    text = _text(config, name)
    if text is None:
        return None
    flag = f"--trust-{name.replace('_', '-')}"
    try:
        number = int(text)
    except ValueError:
        raise pytest.UsageError(f"{flag}: expected a whole number, found {text!r}") from None
    if number < low:
        raise pytest.UsageError(f"{flag}: expected at least {low}, found {number}")
    if number > high:
        raise pytest.UsageError(f"{flag}: expected at most {high:,}, found {number:,}")
    return number


def _batch_size(config: pytest.Config) -> int | None:
    if _text(config, "batch_size") == "auto":
        return None
    return _number(config, "batch_size", 1)


def _shard(config: pytest.Config) -> Shard | None:
    text = _text(config, "shard")
    if text is None:
        return None
    if text == "auto":
        return shard_of_job(os.environ)
    return shards.parse(text)


def _budget(config: pytest.Config) -> tuple[Limit, ...]:
    text = _text(config, "budget")
    if text is None:
        return ()
    return budget.parse(text)


def _stop(config: pytest.Config) -> Stop | None:
    text = _text(config, "stop")
    if text is None:
        return None
    return parse_stop(text, "--trust-stop")


def _path(config: pytest.Config, name: str) -> Path | None:
    """Return a path: relative to the current directory on the command line, to the rootdir in an ini file."""
    on_command_line: str | None = config.getoption(f"trust_{name}")
    if on_command_line:
        return _in_current_directory(config, on_command_line)
    return _ini_path(config, f"trust_{name}")


def _in_current_directory(config: pytest.Config, path: str) -> Path:
    return Path(os.path.normpath(config.invocation_params.dir / path))


def _paths(config: pytest.Config, name: str) -> tuple[Path, ...]:
    on_command_line: Sequence[str] | None = config.getoption(f"trust_{name}")
    if on_command_line:
        return tuple(_in_current_directory(config, path) for path in on_command_line)
    return tuple(_in_root(config, line) for line in config.getini(f"trust_{name}"))


def _ini_path(config: pytest.Config, key: str) -> Path | None:
    text = config.getini(key)
    if not text:
        return None
    return _in_root(config, text)


def _in_root(config: pytest.Config, path: str) -> Path:
    """Return a path of the ini file, without ``..``: pytest compares paths by their text."""
    return Path(os.path.normpath(config.rootpath / path))


def _data(config: pytest.Config) -> str:
    text = _text(config, "data") or "sample"
    if text in ("sample", "full"):
        return text
    return str(_path(config, "data"))


def _card(config: pytest.Config) -> Path | Literal["hub"] | None:
    """Return where the model's card is; None without one.

    Raises:
        pytest.UsageError: There are several models.
    """
    text = _text(config, "card")
    if text is None:
        return None
    if len(model_names(config)) > 1:
        raise pytest.UsageError("--trust-card: a card describes one model; give one --trust-model")
    return "hub" if text == "hub" else _path(config, "card")


def _audit(config: pytest.Config) -> Path | None:
    """Return the saved run that is tested; None without one.

    Raises:
        pytest.UsageError: There are several models, or an option contradicts it.
    """
    path = _path(config, "audit")
    if path is None:
        return None
    if len(model_names(config)) > 1:
        raise pytest.UsageError("--trust-audit: a saved run has one model; give that as --trust-model")
    for name, why in _NO_AUDIT.items():
        if _text(config, name) is not None:
            raise pytest.UsageError(f"--trust-audit: {why}; leave out --trust-{name.replace('_', '-')}")
    return path


def _is_audit_only(config: pytest.Config) -> bool:
    """Return whether nothing but a saved run is tested: it has asked the rest, and ``--trust-suite`` names nothing."""
    return _text(config, "audit") is not None and not _requested_suites(config)


_NO_AUDIT = {
    "batch": "what is asked again is asked directly",
    "shard": "its tests are few, and need no parts",
    "base_model": "only the model of the saved run is asked",
}
"""Option that contradicts it -> why."""


def _audit_key(config: pytest.Config) -> Path | None:
    path = _path(config, "audit_key")
    if path is not None and _text(config, "audit") is None:
        raise pytest.UsageError("--trust-audit-key: needs a signed statement; give --trust-audit=STATEMENT.json too")
    return path


def _replay(config: pytest.Config) -> int:
    number = _number(config, "replay", 0)
    if number is None:
        return _REPLAYED
    if _text(config, "audit") is None:
        raise pytest.UsageError("--trust-replay: needs a saved run; give --trust-audit=RESULTS.json too")
    return number


def _output(config: pytest.Config, name: str, suffix: str) -> Path | None:
    path = _path(config, name)
    if path is None:
        return None
    if is_directory(path) or path.suffix != suffix:
        raise pytest.UsageError(f"--trust-{name}: expected a file name that ends in {suffix}, found {path}")
    return path


def _history(config: pytest.Config) -> Path | None:
    """Return the directory or database that the run is added to; None: none.

    Raises:
        ResultsError: It cannot be one.
    """
    if _text(config, "history") == "sqlite":
        path: Path | None = _store(config) / "history.sqlite"
    else:
        path = _path(config, "history")
    if path is not None:
        history.check_writable(path, "--trust-history")
    return path


def _store(config: pytest.Config) -> Path:
    path = _path(config, "store") or config.rootpath / ".trustllm"
    if exists(path) and not is_directory(path):
        raise pytest.UsageError(f"--trust-store: {path} is not a directory")
    return path


def _suite_places(config: pytest.Config) -> tuple[tuple[Path, ...], tuple[SuitePackage, ...]]:
    """Return the run's directories with suites and its installed packages of suites.

    Raises:
        SuiteError: A line of ``trust_suites`` is neither, or a package holds no suite.
    """
    lines: Sequence[str] = config.getini("trust_suites")
    default = config.rootpath / "suites"
    if not lines and is_directory(default):
        lines = ["suites"]
    named = [line for line in lines if extensions.names_package(line, config.rootpath)]
    directories = [_in_root(config, line) for line in lines if line not in named]
    if _text(config, "card") is not None or _text(config, "audit") is not None:
        named.append(extensions.ASSURANCE)
    # A name in --trust-suite means a suite of the project, then a shipped one, and only then a package.
    suites = _suite_names([*directories, paths.shipped("suites")])
    for name in _requested_suites(config):
        suite = name.partition("/")[0]
        if suite not in suites and extensions.is_suite_package(suite):
            named.append(suite)
    packages = [extensions.suite_package(name) for name in dict.fromkeys(named)]
    return tuple(directories), tuple(packages)


def _suite_names(directories: Sequence[Path]) -> set[str]:
    names: set[str] = set()
    for directory in directories:
        names.update(path.stem for path in directory.glob("*.yaml"))
    return names


def _requested_suites(config: pytest.Config) -> Sequence[str]:
    names: Sequence[str] = config.getoption("trust_suite") or config.getini("trust_suite")
    return names


def _suites(config: pytest.Config, directories: Sequence[Path], packages: Sequence[SuitePackage]) -> tuple[str, ...]:
    """Return the suites and tasks that ``--trust-suite`` names, an installed package as all of its suites."""
    own = _suite_names(directories)
    by_name = {package.name: package for package in packages}
    names: list[str] = []
    for name in _requested_suites(config):
        if name in by_name and name not in own:
            names += by_name[name].suite_names()
        else:
            names.append(name)
    if _is_audit_only(config):
        names += by_name[extensions.ASSURANCE].suite_names()
    return tuple(dict.fromkeys(names))
