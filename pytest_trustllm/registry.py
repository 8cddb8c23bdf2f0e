"""A name in YAML becomes an object, imported on first use."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_trustllm.errors import TrustLLMError, one_line, suggest


class Names:
    """Names of one kind, each bound to ``"module:attribute"`` or to the object itself."""

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets: dict[str, Any] = dict(builtin)
        self._builtin = frozenset(builtin)

    def add(self, name: str, target: Any) -> None:
        """Bind ``name`` to an object or to ``"module:attribute"``.

        Raises:
            TrustLLMError: The name is taken (names are never silently replaced), or the model host could not import it.
        """
        if name in self._targets:
            raise TrustLLMError(f"{self.kind} {name!r} is registered twice; choose another name")
        if not isinstance(target, str) and "<" in getattr(target, "__qualname__", "<instance>"):
            raise TrustLLMError(
                f"{self.kind} {name!r}: {one_line(repr(target), 80)} cannot be imported by another process; "
                "register a class at the top of a module, or 'module:attribute'"
            )
        self._targets[name] = target

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets))

    def unknown(self, name: str) -> str:
        """Return the message for a name that nobody registered."""
        return f"no {self.kind} named {name!r}{suggest(name, self._targets)}"

    def get(self, name: str) -> Any:
        """Return the object bound to ``name``, importing it if needed.

        Raises:
            TrustLLMError: Nobody registered the name, or what it stands for cannot be imported.
        """
        if name not in self._targets:
            raise TrustLLMError(self.unknown(name))
        target = self._targets[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = self._targets[name] = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as e:
                raise TrustLLMError(f"{self.kind} {name!r} cannot be imported: {one_line(e)}") from None
            except Exception as e:  # noqa: BLE001 - a user's module may raise anything when it is imported
                why = f"{type(e).__name__}: {one_line(e)}"
                raise TrustLLMError(f"{self.kind} {name!r} cannot be imported: {why}") from None
        return target

    def added(self) -> dict[str, dict[str, str]]:
        """Return what was registered beside the built-in names, so that another process can import it."""
        found = {}
        for name in set(self._targets) - self._builtin:
            target = self._targets[name]
            if isinstance(target, str):
                module, _, attribute = target.partition(":")
                found[name] = {"module": module, "attribute": attribute, "file": ""}
            else:
                found[name] = {
                    "module": target.__module__,
                    "attribute": target.__qualname__,
                    "file": inspect.getsourcefile(target) or "",
                }
        return found

    def restore(self, added: Mapping[str, Mapping[str, str]]) -> None:
        """Register what :meth:`added` of another process returned."""
        for name, where in added.items():
            if name not in self._targets:
                self._targets[name] = _attribute(where)


def _attribute(where: Mapping[str, str]) -> Any:
    name, file = where["module"], where["file"]
    if name in sys.modules or not file or Path(file).name != "conftest.py":
        module = importlib.import_module(name)
    else:  # a conftest.py is not importable by name: several may exist
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise TrustLLMError(f"cannot import {file}")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found: Any = module
    for part in where["attribute"].split("."):
        found = getattr(found, part)
    return found


def _in(package: str, **names: str) -> dict[str, str]:
    return {name: f"pytest_trustllm.{package}.{target}" for name, target in names.items()}


class Registry:
    """All names that a suite, a threshold file or a models file can use.

    Attributes:
        scorers: Scorer classes; their fields are the parameters that a suite may give.
        metrics: Metric classes.
        providers: Model providers.
    """

    def __init__(self) -> None:
        self.scorers = Names("scorer", SCORERS)
        self.metrics = Names("metric", METRICS)
        self.providers = Names("model provider", PROVIDERS)

    def added(self) -> dict[str, dict[str, dict[str, str]]]:
        """Return everything beside the built-in names, as plain JSON."""
        return {kind: getattr(self, kind).added() for kind in ("scorers", "metrics", "providers")}

    def restore(self, added: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
        """Register what :meth:`added` of another process returned."""
        for kind, names in added.items():
            getattr(self, kind).restore(names)


SCORERS = _in(
    "scorers",
    first_number="choice:FirstNumber",
    option_letter="choice:OptionLetter",
    letter_anywhere="choice:LetterAnywhere",
    letter_word="choice:LetterWord",
    numbered_option="choice:NumberedOption",
    salary_bracket="choice:SalaryBracket",
    claim_label="label:ClaimLabel",
    yes_or_no="label:YesOrNo",
    moral_word="label:MoralWord",
    contains="label:Contains",
    perturbed_pair="label:PerturbedPair",
    agreement_scale="scale:AgreementScale",
    email_leak="leakage:EmailLeak",
    refusal="refusal:Refusal",
    refusal_or_choice="refusal:RefusalOrChoice",
    toxicity="toxicity:Toxicity",
    similarity_gap="similarity:SimilarityGap",
    answer_similarity="similarity:AnswerSimilarity",
    answer_match="judged:AnswerMatch",
    premise_correction="judged:PremiseCorrection",
    opinion_change="judged:OpinionChange",
    action_judgement="partly_judged:ActionJudgement",
    stereotype_option="partly_judged:StereotypeOption",
    stereotype_agreement="partly_judged:StereotypeAgreement",
    diagnosis="partly_judged:Diagnosis",
    closed_book_answer="mixed:ClosedBookAnswer",
    hallucination_answer="mixed:HallucinationAnswer",
    shifted_answer="mixed:ShiftedAnswer",
)
METRICS = _in(
    "metrics",
    mean="rates:Mean",
    accuracy="rates:Mean",
    refusal_rate="rates:Mean",
    max="rates:Greatest",
    share="rates:Share",
    conditional_disclosure="rates:ConditionalDisclosure",
    macro_f1="classification:MacroF1",
    upstream_macro_f1="classification:UpstreamMacroF1",
    upstream_verdict_f1="classification:UpstreamVerdictF1",
    pearson="association:Pearson",
    chi_square_p="association:ChiSquareP",
    attack_success_rate="robustness:AttackSuccessRate",
    upstream_attack_success_rate="robustness:UpstreamAttackSuccessRate",
    robustness_score="robustness:RobustnessScore",
    upstream_robustness_score="robustness:UpstreamRobustnessScore",
    similarity="robustness:Similarity",
    upstream_neighbour_similarity="robustness:UpstreamNeighbourSimilarity",
)
PROVIDERS = _in(
    "models",
    hf="huggingface:PROVIDER",
    openai="openai:PROVIDER",
    replay="replay:PROVIDER",
    python="callable:PROVIDER",
    demo="demo:PROVIDER",
    rules="rules:PROVIDER",
    perspective="perspective:PROVIDER",
)
