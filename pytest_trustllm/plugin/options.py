"""Flags and ini keys. Every pytest run declares them, so this imports nothing; ``settings`` reads them."""

from __future__ import annotations

from typing import Any

import pytest

STATE: pytest.StashKey[Any] = pytest.StashKey()
"""Where the run's state lies; absent in a run without ``--trust-model``."""

_FLAGS: tuple[tuple[str, str | None, str], ...] = (
    ("model", "NAME", "model under test: alias, hf:REPO, openai:ID, replay:PATH, python:MODULE:NAME, demo; repeatable"),
    ("suite", "NAME", "only this suite, or this task of it (SUITE/TASK); may be repeated"),
    ("data", "sample|full|PATH", "rows to ask: the bundled sample items (default), or the TrustLLM data set in PATH"),
    ("limit", "N", "at most N samples per task, chosen by the seed"),
    ("shard", "I/N", "only part I of N; 'pytest-trustllm merge' joins the results of all parts"),
    ("epochs", "N", "ask every item N times; its score is the mean (default: 1)"),
    ("seed", "N", "seed of sampled answers and of --trust-limit (default: 0)"),
    ("thresholds", "PATH", "threshold file or directory (default: thresholds/ if it exists, else the shipped ones)"),
    ("gate-tags", "TAG,...", "only gates with one of these tags; 'not TAG': only gates without it (default: all)"),
    ("baseline", "PATH.json", "results of an earlier run, with its samples beside it: max_drop gates, flipped samples"),
    ("baseline-any-model", None, "the baseline may be a run of another model"),
    ("judge", "MODEL", "model in the judge's role"),
    ("judge-check", "PATH", "what judge-check --json wrote; corrects rates for the mistakes it found; repeatable"),
    ("judge-votes", "K", "ask the judge K times for every verdict; the majority counts (default: 1)"),
    ("refusal-classifier", "MODEL|rules", "model that tells refusals (default: rules, a phrase list)"),
    ("embedder", "MODEL", "model that embeds texts"),
    ("toxicity", "MODEL|perspective", "model that rates toxicity"),
    ("results", "PATH", "write the results as JSON, and every sample as JSONL beside it"),
    ("report", "PATH", "write an HTML report"),
    ("show-content", None, "show harmful answers and personal data, which reports and logs hide"),
    ("store", "DIR", "where answers are kept between runs (default: .trustllm in the rootdir)"),
    ("fresh", None, "ask again although an answer is stored"),
    ("offline", None, "use stored answers only; a missing one is an error"),
    ("strict", None, "an item whose score misses its target fails its test"),
    ("batch-size", "N|auto", "sequences that a local model computes at once (default: auto)"),
    ("max-concurrency", "N", "requests in flight to an API or a callable, over the whole run"),
    ("budget", "AMOUNTS", "stop asking when it is spent, such as '5 USD, 2M tokens, 30 min'; the next run goes on"),
    ("device", "auto|cpu|cuda|mps|cuda:0,...", "where a local model runs, a copy on each of several (default: auto)"),
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
        "trust_suites", "directories with suite files (default: suites/ if it exists)", type="linelist", default=[]
    )
    parser.addini("trust_builtin_suites", "collect the shipped suites too", type="bool", default=True)
    parser.addini("trust_models", "file with more model aliases", default="")


def model_names(config: pytest.Config) -> tuple[str, ...]:
    """Return the models under test; none means that the plugin sleeps."""
    return tuple(config.getoption("trust_model") or config.getini("trust_model"))
