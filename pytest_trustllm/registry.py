"""A name in YAML becomes an object, which is imported on first use."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_trustllm.errors import TrustLLMError, one_line, suggest


class Names:
    """Names of one kind, each bound to ``"module:attribute"`` or to the object itself.

    Args:
        kind: Names the kind in messages, such as ``scorer``.
        builtin: Name -> ``"module:attribute"`` of what comes with the package.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets: dict[str, Any] = dict(builtin)
        self._builtin = frozenset(builtin)

    def add(self, name: str, target: Any) -> None:
        """Bind ``name`` to an object or to ``"module:attribute"``.

        Raises:
            TrustLLMError: The name is taken (names are never silently replaced), or the model host, which is another
                process, could not import the object.
        """
        if name in self._targets:
            raise TrustLLMError(f"{self.kind} {name!r} is registered twice; choose another name")
        if not isinstance(target, str) and not _is_importable(target):
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
        """Return the message for a name that is not registered."""
        return f"no {self.kind} named {name!r}{suggest(name, self._targets)}"

    def get(self, name: str) -> Any:
        """Return the object bound to ``name``, importing it if needed.

        Raises:
            TrustLLMError: The name is not registered, or its target cannot be imported.
        """
        if name not in self._targets:
            raise TrustLLMError(self.unknown(name))
        target = self._targets[name]
        if isinstance(target, str):
            target = self._imported(name, target)
            self._targets[name] = target
        return target

    def _imported(self, name: str, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as e:
            reason = one_line(e)
        except Exception as e:  # noqa: BLE001 - a user's module may raise anything when it is imported
            reason = f"{type(e).__name__}: {one_line(e)}"
        raise TrustLLMError(f"{self.kind} {name!r} cannot be imported: {reason}")

    def added(self) -> dict[str, dict[str, str]]:
        """Return what was registered besides the built-in names, so that another process can import it."""
        locations = {}
        for name in set(self._targets) - self._builtin:
            target = self._targets[name]
            if isinstance(target, str):
                module, _, attribute = target.partition(":")
                file = ""
            else:
                module = target.__module__
                attribute = target.__qualname__
                file = inspect.getsourcefile(target) or ""
            locations[name] = {"module": module, "attribute": attribute, "file": file}
        return locations

    def restore(self, added: Mapping[str, Mapping[str, str]]) -> None:
        """Register what :meth:`added` of another process returned."""
        for name, location in added.items():
            if name not in self._targets:
                self._targets[name] = _imported_from(location)


def _is_importable(target: Any) -> bool:
    """Return whether an object has a name at the top of its module; a lambda has ``<lambda>``, an instance none."""
    qualified_name = getattr(target, "__qualname__", None)
    return qualified_name is not None and "<" not in qualified_name


def _imported_from(location: Mapping[str, str]) -> Any:
    name = location["module"]
    is_conftest = Path(location["file"]).name == "conftest.py"
    # A conftest.py cannot be imported by name, because there may be several.
    if is_conftest and name not in sys.modules:
        imported: Any = _module_from_file(name, location["file"])
    else:
        imported = importlib.import_module(name)
    for part in location["attribute"].split("."):  # a class inside a class
        imported = getattr(imported, part)
    return imported


def _module_from_file(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TrustLLMError(f"cannot import {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it is run: dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _in(package: str, **names: str) -> dict[str, str]:
    """Return name -> target, from name -> target within a package of ours."""
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
        """Return everything besides the built-in names, as plain JSON."""
        return {kind: getattr(self, kind).added() for kind in ("scorers", "metrics", "providers")}

    def restore(self, added: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
        """Register what :meth:`added` of another process returned."""
        for kind, names in added.items():
            getattr(self, kind).restore(names)


SCORERS = _in(
    "scorers",
    **{"not": "combined:Not"},
    first_number="choice:FirstNumber",
    option_letter="choice:OptionLetter",
    letter_anywhere="choice:LetterAnywhere",
    letter_word="choice:LetterWord",
    numbered_option="choice:NumberedOption",
    salary_bracket="choice:SalaryBracket",
    claim_label="label:ClaimLabel",
    yes_or_no="label:YesOrNo",
    moral_word="label:MoralWord",
    contains="contains:Contains",
    equals="texts:Equals",
    length="texts:Length",
    regex="patterns:RegexMatch",
    json="json_texts:JsonText",
    number="numbers:NumberAnswer",
    similarity="similarity:TextSimilarity",
    language="languages:AnswerLanguage",
    python="functions:FunctionScore",
    all_of="combined:AllOf",
    any_of="combined:AnyOf",
    judge="own_judge:OwnJudge",
    guard="guarded:Guard",
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
    documented="documented:DocumentedField",
    self_description="documented:SelfDescription",
    verified="audited:Verified",
    same_answer="audited:SameAnswer",
    shifted_answer="mixed:ShiftedAnswer",
    tool_calls="tool_calls:ToolCalls",
)
METRICS = _in(
    "metrics",
    mean="rates:Mean",
    accuracy="rates:Mean",
    refusal_rate="rates:Mean",
    documented_rate="rates:Mean",
    verified_rate="rates:Mean",
    confirmed_rate="rates:Mean",
    same_rate="rates:Mean",
    max="rates:Greatest",
    share="rates:Share",
    conditional_disclosure="rates:ConditionalDisclosure",
    macro_f1="classification:MacroF1",
    upstream_macro_f1="classification:UpstreamMacroF1",
    upstream_verdict_f1="classification:UpstreamVerdictF1",
    pearson="association:Pearson",
    chi_square_p="association:ChiSquareP",
    attack_success_rate="robustness:AttackSuccessRate",
    attack_success_at="attacks:AttackSuccessAt",
    worst_transform="attacks:WorstTransform",
    upstream_attack_success_rate="robustness:UpstreamAttackSuccessRate",
    robustness_score="robustness:RobustnessScore",
    upstream_robustness_score="robustness:UpstreamRobustnessScore",
    similarity="robustness:Similarity",
    upstream_neighbour_similarity="robustness:UpstreamNeighbourSimilarity",
)
PROVIDERS = _in(
    "models",
    hf="local.huggingface:PROVIDER",
    openai="api.openai:PROVIDER",
    server="server.provider:SERVER",
    vllm="server.provider:VLLM",
    sglang="server.provider:SGLANG",
    llamacpp="server.provider:LLAMACPP",
    replay="replay:PROVIDER",
    python="python:PROVIDER",
    demo="local.demo:PROVIDER",
    builtin="refusal.builtin:PROVIDER",
    rules="refusal.rules:PROVIDER",
    perspective="api.perspective:PROVIDER",
)
