"""Flags and ini keys. Every pytest run declares them, so this module imports nothing heavy; ``settings`` reads them."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

STATE: pytest.StashKey[Any] = pytest.StashKey()
"""Key of the run's state; absent in a run without ``--trust-model``."""

_FLAGS: tuple[tuple[str, str | None, str], ...] = (
    ("model", "NAME", "model under test: alias, hf:REPO, openai:ID, replay:PATH, python:MODULE:NAME, demo; repeatable"),
    ("suite", "NAME", "only this suite, task of it (SUITE/TASK) or installed package of suites; may be repeated"),
    ("licences", "PATTERN,...", "only tasks whose rows have one of these licences, such as 'MIT, CC-BY-*'"),
    ("data", "sample|full|PATH", "rows to ask: the bundled sample items (default), or the TrustLLM data set in PATH"),
    ("card", "PATH|hub", "the model's card (Markdown or YAML), or that of its repository; adds the suite transparency"),
    ("audit", "RESULTS.json|STATEMENT.json", "test a saved run: adds the suite accountability, and asks nothing else"),
    ("audit-key", "PEM", "public key of who is to have signed the statement of --trust-audit"),
    ("replay", "K", "samples of the audited run that are asked again, chosen by the seed (default: 5)"),
    ("limit", "N", "at most N samples per task, chosen by the seed"),
    ("shard", "I/N|auto", "only part I of N, auto: as this job is numbered; 'pytest-trustllm merge' joins all parts"),
    ("epochs", "N", "ask every item N times; its score is the mean (default: 1)"),
    ("seed", "N", "seed of sampled answers and of --trust-limit (default: 0)"),
    ("thresholds", "PATH", "threshold file or directory (default: thresholds/ if it exists, else the shipped ones)"),
    ("gate-tags", "TAG,...", "only gates with one of these tags; 'not TAG': only gates without it (default: all)"),
    ("baseline", "PATH.json", "results of an earlier run and its samples file: for max_drop gates and flipped samples"),
    ("baseline-any-model", None, "the baseline may be a run of another model"),
    ("base-model", "NAME", "ask the bare model behind an app the same, and show what the app changes"),
    ("judge", "MODEL", "model in the judge's role"),
    ("judge-check", "PATH", "what judge-check --json wrote; corrects rates for the mistakes it found; repeatable"),
    ("judge-votes", "K", "prompt the judge K times for every verdict; the majority counts (default: 1)"),
    ("refusal-classifier", "MODEL|builtin|rules", "model that tells refusals (default: builtin, a small classifier)"),
    ("blocked", "refusal|unscored", "a prompt that the provider's filter blocked is a refusal (default) or unscored"),
    ("embedder", "MODEL", "model that embeds texts"),
    ("toxicity", "MODEL|perspective", "model that rates toxicity"),
    ("guard", "MODEL", "model that tells whether a response is safe, such as Llama Guard"),
    ("simulator", "MODEL", "model that plays the user in conversations"),
    ("results", "PATH", "write the results as JSON, and every sample as JSONL next to them"),
    ("report", "PATH", "write an HTML report"),
    ("history", "DIR|sqlite", "add the run to those in DIR, in FILE.sqlite, or in the store's history.sqlite (sqlite)"),
    ("show-content", None, "show harmful answers and personal data, which reports and logs hide"),
    ("store", "DIR", "where answers are kept between runs (default: .trustllm in the rootdir)"),
    ("fresh", None, "send every request again, even if its answer is stored"),
    ("offline", None, "use stored answers only; a missing one is an error"),
    ("in-process", None, "run the model host in this process, so that breakpoints in scorers work (implied by --pdb)"),
    ("strict", None, "an item whose score misses its target fails its test"),
    ("batch-size", "N|auto", "sequences that a local model computes at once (default: auto)"),
    ("batch", "submit|wait", "use the batch API, at half the price; submit: collect in a later run, wait: in this one"),
    ("max-concurrency", "N", "requests in flight to an API or a callable, over the whole run"),
    ("budget", "AMOUNTS", "stop sending requests once it is spent ('5 USD, 2M tokens, 30 min'); the next run resumes"),
    ("plan", None, "print what the run would ask, cost and take, and what its gates need; ask nothing, start no model"),
    ("stop", "exact|ALPHA|never", "stop asking once gates are decided: for certain, or at a probability of error"),
    ("stop-ungated", None, "with --trust-stop: do not ask tasks that no gate is about"),
    ("device", "auto|cpu|cuda|mps|cuda:0,...", "where a local model runs, a copy on each of several (default: auto)"),
    ("cluster", "auto|ADDRESS", "run local models and servers on the nodes of a Ray cluster"),
)  # fmt: skip
_REPEATED = ("model", "suite", "judge-check")


def declare(parser: pytest.Parser) -> None:
    """Add all flags and ini keys."""
    group = parser.getgroup("trust", "trustworthiness of language models (pytest-trustllm)")
    for name, metavar, text in _FLAGS:
        dest, more = f"trust_{name.replace('-', '_')}", "\n(ini: the same name with underscores)"
        if metavar is None:
            group.addoption(f"--trust-{name}", action="store_true", default=None, dest=dest, help=text)
            parser.addini(dest, f"--trust-{name}", type="bool", default=False)
        elif name in _REPEATED:
            group.addoption(f"--trust-{name}", action="append", metavar=metavar, dest=dest, help=text)
            parser.addini(dest, f"--trust-{name}", type="linelist", default=[])
        else:
            group.addoption(f"--trust-{name}", metavar=metavar, dest=dest, help=text + more * (name == "data"))
            parser.addini(dest, f"--trust-{name}", default="")
    parser.addini(
        "trust_suites",
        "directories with suite files, or installed packages by name (default: suites/ if it exists)",
        type="linelist",
        default=[],
    )
    parser.addini("trust_builtin_suites", "collect the shipped suites too", type="bool", default=True)
    parser.addini(
        "trust_allow_outside", "suites and thresholds may name files outside the project", type="bool", default=False
    )
    parser.addini("trust_models", "file with more model aliases", default="")


def runs_in_process(config: pytest.Config, given: argparse.Namespace) -> bool:
    """Return whether the model host is to run in the process of pytest, so that a debugger reaches scorers.

    Args:
        config: For ini keys.
        given: The command line, which pytest has not put into ``config`` when it begins to capture.
    """
    if not (given.trust_model or config.getini("trust_model")):
        return False
    if getattr(given, "usepdb", False):
        return True
    return bool(config.getini("trust_in_process") if given.trust_in_process is None else given.trust_in_process)


def given_flags(config: pytest.Config) -> list[str]:
    """Return the flags of ours that the command line or ``addopts`` gives."""
    names = [name for name, _, _ in _FLAGS]
    return [f"--trust-{name}" for name in names if config.getoption(f"trust_{name.replace('-', '_')}") is not None]


def model_names(config: pytest.Config) -> tuple[str, ...]:
    """Return the models under test; without any, the plugin is inactive."""
    return tuple(config.getoption("trust_model") or config.getini("trust_model"))
