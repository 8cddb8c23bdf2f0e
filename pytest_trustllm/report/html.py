"""The report: one HTML file that needs nothing besides a browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_trustllm.errors import one_line
from pytest_trustllm.report import view
from pytest_trustllm.report.pack import pack

_TEMPLATES = Path(__file__).parent / "templates"


def render(results: Mapping[str, Any], samples: Iterable[Mapping[str, Any]]) -> str:
    """Return the page of one run.

    Everything but the items is plain HTML; the items are compressed data that the page's script reads. Text of models
    and data sets is never part of the markup: it is escaped here or inserted as text there, and the page's policy
    forbids every script but ours and every request.

    Args:
        results: The results document.
        samples: The lines of the samples file; read once, not kept.
    """
    packed = pack(samples, view.tasks_of(results))
    gates = view.gates_of(results)
    style, script = _asset("report.css"), _asset("report.js")
    template = _environment().get_template("report.html.j2")
    return template.render(
        model=one_line(results["run"].get("model", {}).get("name", "unnamed model"), 120),
        version=one_line(results["run"].get("plugin_version", ""), 40),
        partial=results["run"].get("selection") == "partial",
        facts=view.facts_of(results, packed),
        verdict=view.verdict_of(gates),
        gates=gates,
        dimensions=view.dimensions_of(results, packed),
        reasons=view.reasons_of(results, packed),
        card=view.card_of(results),
        total=packed.total,
        index=Markup(packed.index),  # noqa: S704 - base 85 without '<'
        blocks=[Markup(block) for block in packed.blocks],  # noqa: S704 - the same
        style=style,
        script=script,
        policy=_policy(style, script),
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = view.number
    return environment


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows these two texts and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
