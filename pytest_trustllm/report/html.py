"""The report: one HTML file that needs nothing besides a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_trustllm import masking
from pytest_trustllm.errors import one_line
from pytest_trustllm.report import before, card, charts, compare, figures, notes, published, verdicts, view
from pytest_trustllm.report.before import Before
from pytest_trustllm.report.pack import Packed, encode, index, pack

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("data", "text", "item", "list", "select", "start")
"""Parts of the page's script, in their order; together they are one function."""
_JOINTS = re.compile(r"(?<=[/_])(?=\w)|(?<=[A-Za-z]\.)(?=[A-Za-z])|(?=\[|::)")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one model.

    Attributes:
        results: The results document.
        samples: The lines of the samples file; read once, not kept.
    """

    results: Mapping[str, Any]
    samples: Iterable[Mapping[str, Any]]


def render(*runs: Run, content: bool = False) -> str:
    """Return the page of a run.

    Everything but the items is plain HTML; the items are compressed data that the page's script reads. Text of models
    and data sets is never part of the markup: it is escaped here or inserted as text there, and the page's policy
    forbids every script but ours and every request.

    Args:
        runs: The last one is the page's; it is laid beside those before it.
        content: Do not blur harmful answers and personal data.
    """
    *others, run = runs
    results, packed = run.results, _packed(run, content)
    names = before.named([r.results for r in runs])
    befores = [
        before.of_run(name, o.results, _packed(o, content), packed) for name, o in zip(names, others, strict=False)
    ]
    known = before.of_document(results)
    befores = befores or ([known] if known is not None else [])
    gates = verdicts.gates_of(results)
    style, script = _asset("report.css"), _script()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            model=before.model_of(results),
            version=one_line(results["run"].get("plugin_version", ""), 40),
            partial=results["run"].get("selection") == "partial",
            bundled=results["run"].get("data", {}).get("source") == "sample",
            facts=card.facts_of(results, packed),
            verdict=verdicts.verdict_of(gates),
            gates=gates,
            dimensions=view.dimensions_of(results, packed, befores),
            radar=charts.radar(results),
            charts=[c for c in (published.over_alignment(results), published.trust_and_utility(results)) if c],
            comparison=compare.comparison(results, packed, befores, [o.results for o in others]),
            reasons=view.reasons_of(results, packed),
            stability=view.stability_of(results),
            notes=[note for note in (notes.judge_votes(results), notes.near_ties(results)) if note],
            breakdowns=view.breakdowns_of(packed),
            card=card.card_of(results),
            masking=[] if content else masking.RULES,
            hidden=packed.hidden,
            total=packed.total,
            index=Markup(index(packed, befores, _nodes(results))),  # noqa: S704 - base 85 without '<'
            patterns=Markup(encode({} if content else dict(masking.PATTERNS))),  # noqa: S704 - the same
            blocks=[Markup(block) for block in _blocks(packed, befores)],  # noqa: S704 - the same
            style=style,
            script=script,
            policy=_policy(style, script),
        )
    )


def _packed(run: Run, content: bool) -> Packed:
    hoping = None if content else masking.hoping_for_refusal(run.results["metrics"])
    return pack(run.samples, view.tasks_of(run.results), hoping)


def _blocks(packed: Packed, befores: Sequence[Before]) -> list[str]:
    return [*packed.blocks, *(block for b in befores if b.packed is not None for block in b.packed.blocks)]


def _nodes(results: Mapping[str, Any]) -> Mapping[str, str]:
    """Return task -> node id of its samples, with ``{}`` for the sample's id; older results do not say it."""
    found: Mapping[str, str] = results["run"].get("nodes") or {}
    return found


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = figures.number
    environment.filters["signed"] = figures.signed
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(text: str) -> Markup:
    """Return escaped text that may go on in a new line where a name has a joint."""
    return Markup("<wbr>").join(_JOINTS.split(text))  # join escapes its parts


def _script() -> Markup:
    parts = ((_TEMPLATES / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return Markup('"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n")  # noqa: S704 - our own files


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
