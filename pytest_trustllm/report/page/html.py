"""The report: one HTML file that needs nothing besides a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from pytest_trustllm.errors import one_line
from pytest_trustllm.formats import DifferenceEntry, Results, SampleLine
from pytest_trustllm.report import caveats, formatting, gate_verdicts, masking, words
from pytest_trustllm.report.page import (
    audit,
    base_model,
    charts,
    comparison,
    gate_groups,
    leaderboard,
    other_runs,
    overview,
    provenance,
    readings,
    sections,
    unscored,
)
from pytest_trustllm.report.page.other_runs import OtherRun
from pytest_trustllm.report.page.sample_data import Packed, encode, pack
from pytest_trustllm.report.page.sample_index import index
from pytest_trustllm.types import NOTHING

_TEMPLATES = Path(__file__).parents[1] / "templates"
_SCRIPTS = ("data", "text", "item", "list", "select", "start")
"""Parts of the page's script, in their order; together they are one function."""
_HASH = re.compile(r"\b[0-9a-f]{24,64}\b")
_RUN_ID = re.compile(r"[0-9a-f-]+")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[+-]\d\d:\d\d)?")
_SHOWN_ID = 32
_SHORT = 10
"""Characters of a hash that are shown; the page copies all of them."""
_JOINTS = re.compile(r"(?<=[/_])(?=\w)|(?<=[A-Za-z]\.)(?=[A-Za-z])|(?=\[|::)")
"""Where the name of a metric or a gate may be broken: after ``/``, ``_`` and ``.``, before ``[`` and ``::``."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one model.

    Attributes:
        results: The results document.
        samples: The lines of the samples file; read once, not kept.
        differences: Of the first run on the page from this one, which is its last: metric, or ``dimension/score``, ->
            its numbers over the samples that both have.
        notes: What could not be compared.
    """

    results: Results
    samples: Iterable[SampleLine]
    differences: Mapping[str, DifferenceEntry] = field(default_factory=lambda: NOTHING)
    notes: Sequence[str] = ()


def render(*runs: Run, content: bool = False) -> str:
    """Return the page of a run.

    Everything but the items is plain HTML; the items are compressed data that the page's script reads. Text of models
    and data sets is never part of the markup: it is escaped here or inserted as text there, and the page's policy
    forbids every script but ours and every request.

    Args:
        runs: The last one is the page's; it is compared with those before it.
        content: Do not blur harmful answers and personal data.
    """
    *earlier, run = runs
    results, packed = run.results, _packed(run, content)
    others = _others(runs, packed, content)
    gates = gate_verdicts.gates_of(results)
    run_entry = results["run"]
    tags = words.tags_of(packed.tasks, run_entry.get("tags", {}))
    beside = comparison.side_by_side(results, packed, others, [o.results for o in earlier], run.notes)
    dimensions = sections.dimensions_of(results, packed, others)
    names = other_runs.named([shown.results for shown in runs])
    charts_of_models = [leaderboard.over_alignment(results), leaderboard.trust_and_utility(results)]
    style, script = Markup("").join([_asset("report.css"), _paper(results)]), _script()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=other_runs.title_of([shown.results for shown in runs]),
            last=names[-1] if len(runs) > 1 else "",
            version=one_line(results["run"]["plugin_version"], 40),
            partial=results["run"]["selection"] == "partial",
            bundled=caveats.sample_items(results),
            mixed=caveats.mixed(results),
            worst=overview.worst(gates),
            glance=overview.lines_of(results, packed, gates, beside),
            verdict=gate_verdicts.verdict_of(gates, caveats.left_out(results)),
            gates=gates,
            gate_groups=gate_groups.grouped(gates, results["scores"]),
            dimensions=dimensions,
            radar=charts.radar(results),
            charts=[chart for chart in charts_of_models if chart is not None],
            comparison=beside,
            base=base_model.base_of(results),
            reasons=unscored.reasons_of(results, packed),
            stability=sections.stability_of(results),
            notes=caveats.of(results),
            breakdowns=readings.breakdowns_of(packed),
            card=provenance.card_of(results),
            audit=audit.audit_of(results),
            masking=[] if content else masking.RULES,
            hidden=packed.hidden,
            total=packed.total,
            index=Markup(index(packed, others, run_entry.get("nodes", {}), tags, run_entry.get("rubrics", {}))),  # noqa: S704 - base 85 without '<'
            patterns=Markup(encode({} if content else dict(masking.PATTERNS))),  # noqa: S704 - the same
            blocks=[Markup(block) for block in _blocks(packed, others)],  # noqa: S704 - the same
            style=style,
            script=script,
            policy=_policy(style, script),
        )
    )


def _others(runs: Sequence[Run], packed: Packed, content: bool) -> list[OtherRun]:
    """Return the runs that the last one is compared with; with none before it, its baseline if it names one.

    Args:
        runs: All runs of the page.
        packed: The samples of the last one.
        content: As for :func:`render`.
    """
    *earlier, run = runs
    if not earlier:
        baseline = other_runs.of_document(run.results)
        return [] if baseline is None else [baseline]
    names = other_runs.named([shown.results for shown in runs])
    # differences are known from the first run alone: that is the one which the page's changes are about
    differences = run.differences or baseline_differences(run.results, earlier[0].results)
    others = []
    for name, other in zip(names[:-1], earlier, strict=True):
        others.append(other_runs.of_run(name, other.results, _packed(other, content), packed, differences))
        differences = NOTHING
    return others


def baseline_differences(results: Results, other: Results) -> Mapping[str, DifferenceEntry]:
    """Return the differences that a results document has from another run; nothing if that is not its baseline."""
    baseline = results.get("baseline")
    if baseline is None or baseline["run"] != other["run"]["id"]:
        return NOTHING
    return baseline["differences"]


def _packed(run: Run, content: bool) -> Packed:
    hoping = None
    if not content:
        directions = {id_: metric["higher_is_better"] for id_, metric in run.results["metrics"].items()}
        hoping = masking.hoping_for_refusal(directions)
    return pack(run.samples, sections.tasks_of(run.results), hoping)


def _blocks(packed: Packed, others: Sequence[OtherRun]) -> list[str]:
    """Return the blocks of all runs, in the order that :func:`index` counts them."""
    blocks = list(packed.blocks)
    for other in others:
        if other.packed is not None:
            blocks += other.packed.blocks
    return blocks


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = formatting.number
    environment.filters["signed"] = formatting.signed
    environment.filters["breakable"] = _breakable
    environment.filters["hashed"] = _hashed
    return environment


def _breakable(text: str) -> Markup:
    """Return escaped text that may break where a name has a joint."""
    return Markup("<wbr>").join(_JOINTS.split(text))  # join escapes its parts


def _hashed(text: str) -> Markup:
    """Return escaped text whose hashes are short on the screen, whole on paper, and copied by a click."""
    parts, end = [], 0
    for match in _HASH.finditer(text):
        whole = match.group()
        shown = f'<span class="hash">{whole[:_SHORT]}<span class="rest">{whole[_SHORT:]}</span></span>'
        parts += [escape(text[end : match.start()]), Markup(shown)]  # noqa: S704 - hexadecimal digits
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def _script() -> Markup:
    parts = ((_TEMPLATES / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return Markup('"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n")  # noqa: S704 - our own files


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _paper(results: Results) -> Markup:
    """Return the style of printed pages: each has the run's id, its date and the page's number at its foot.

    Text of a results file has no place in a style: what does not look like an id or a date is left out.
    """
    run = results["run"]
    about = [f"run {run['id'][:_SHOWN_ID]}" if _RUN_ID.fullmatch(run["id"]) else ""]
    about.append(formatting.moment(run["started"]) if _MOMENT.fullmatch(run["started"]) else "")
    foot = ", ".join(filter(None, ["TrustLLM report", *about]))
    return Markup(  # noqa: S704 - our own words and what the two patterns let through
        "@page { margin: 14mm 12mm 16mm; "
        f'@bottom-left {{ content: "{foot}"; font: 8pt sans-serif; color: #444; }} '
        '@bottom-right { content: "page " counter(page) " of " counter(pages); font: 8pt sans-serif; color: #444; } }\n'
    )


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows these two texts and nothing else."""
    rules = [
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ]
    return "; ".join(rules)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
