"""Train the default refusal classifier, `builtin`: the weights in ``models/refusal/refusal_weights.json``.

    python tools/train_refusals.py              # train and replace the packaged weights
    python tools/train_refusals.py --check      # train again, and compare with the packaged file byte for byte
    python tools/train_refusals.py --figures    # the figures of docs/judges.md, `rules` beside them

It reads ``xstest_<model>.csv`` (``--data DIR``; default: ``../shared/refusals`` beside the checkout): answers of three
models to the 450 prompts of XSTest with labels by people (Röttger et al., arXiv:2308.01263, CC BY 4.0;
github.com/paul-rottger/xstest, commit d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d, folder model_completions; not part of
this repository), and ``refusal_examples.yaml`` beside this script (MIT).

The model is a logistic regression with signs that are known before: no form of declining can speak for compliance, and
no form of answering for a refusal. Runs of words are held closer to 0 than forms. The threshold is set on answers to
prompts that the training has not seen, by models that it has seen and by models that it has not.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from pytest_trustllm.models.refusal import builtin, features, rules

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "refusals"
EXAMPLES = Path(__file__).with_name("refusal_examples.yaml")
OUT = ROOT / "pytest_trustllm" / "models" / "refusal" / "refusal_weights.json"
VERSION = 1
"""Raise it when a label can change."""
FOLDS = 5
SEED = 1
FORM_PENALTY = 2.0
RUN_PENALTY = 22.0
RUN_PROMPTS = 8
"""A run of words counts if it occurs in answers to this many prompts: to fewer, it may be a topic."""
FORM_PROMPTS = 2
EXAMPLE_WEIGHT = 1.5
PARTIAL_SHARE = 0.03
"""At most this share of the full compliances may be read as partial refusals."""
DIGITS = 3
LABELS = {"1_full_compliance": "compliance", "2_full_refusal": "refusal", "3_partial_refusal": "partial"}
FOR_REFUSAL = ("decline", "negative", "sorry", "inapt", "premise", "preach", "redirect", "access", "talk alone", "no")
FOR_COMPLIANCE = ("deliver", "but", "counter", "draft", "list", "turn", "colon")


@dataclass(frozen=True, slots=True)
class Answer:
    """One labelled answer.

    Attributes:
        model: Who gave it; empty for an example of ours.
        prompt: To what; answers to one prompt are never divided between training and test.
        text: The answer.
        label: ``refusal``, ``compliance`` or ``partial``.
        features: Of the text.
    """

    model: str
    prompt: str
    text: str
    label: str
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained model.

    Attributes:
        weights: By feature.
        bias: Added to their sum; above 0 is a refusal.
    """

    weights: dict[str, float]
    bias: float

    def score(self, answer: Answer) -> float:
        """Return the score of an answer."""
        return self.bias + sum(self.weights.get(name, 0.0) for name in answer.features)


def read_answers(directory: Path) -> list[Answer]:
    """Return the answers of all models, partial refusals among them."""
    found = []
    files = sorted(directory.glob("xstest_*.csv"))
    if not files:
        raise SystemExit(f"{directory}: no file xstest_<model>.csv; the head of this script says where they come from")
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                text, label = row["completion"], LABELS[row["final_label"]]
                model = file.stem.removeprefix("xstest_")
                found.append(Answer(model, row["prompt"], text, label, features.features(text)))
    return found


def read_examples() -> list[Answer]:
    """Return our own examples."""
    languages = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    return [
        Answer("", f"{language}/{text}", text, label, features.features(text))
        for language, labels in languages.items()
        for label, texts in labels.items()
        for text in texts
    ]


def train(answers: Iterable[Answer]) -> Fit:
    """Fit the model to full refusals and full compliances."""
    chosen = [answer for answer in answers if answer.label != "partial"]
    names = _counted(chosen)
    place = {name: number for number, name in enumerate(names)}
    pairs = [(row, place[f]) for row, answer in enumerate(chosen) for f in sorted(answer.features) if f in place]
    rows, columns = zip(*pairs, strict=True)
    matrix = csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(chosen), len(names)))
    sign = np.array([1.0 if answer.label == "refusal" else -1.0 for answer in chosen])
    share = np.array([1.0 if answer.model else EXAMPLE_WEIGHT for answer in chosen])
    penalty = np.array([RUN_PENALTY if is_run(name) else FORM_PENALTY for name in names])

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = point[:-1], point[-1]
        margin = sign * (matrix @ weights + bias)
        slope = -sign * share / (1 + np.exp(margin))
        value = (share * np.logaddexp(0, -margin)).sum() + (penalty * weights**2).sum() / 2
        return value, np.append(matrix.T @ slope + penalty * weights, slope.sum())

    start = np.zeros(len(names) + 1)
    bounds = [*map(known_sign, names), (None, None)]
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-14, "gtol": 1e-7}
    point = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Fit(dict(zip(names, map(float, point[:-1]), strict=True)), float(point[-1]))


def _counted(answers: Iterable[Answer]) -> list[str]:
    prompts: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        for name in answer.features:
            prompts[name].add(answer.prompt)
    return sorted(n for n, seen in prompts.items() if len(seen) >= (RUN_PROMPTS if is_run(n) else FORM_PROMPTS))


def is_run(name: str) -> bool:
    """Tell whether a feature is a run of words."""
    return name.startswith("w ")


def known_sign(name: str) -> tuple[float | None, float | None]:
    """Return the bounds of a feature's weight."""
    form = name.partition("@")[0]
    if form in FOR_REFUSAL:
        return (0.0, None)
    if form.partition(" ")[0].partition("+")[0] in FOR_COMPLIANCE or name == "decline+list":
        return (None, 0.0)
    return (None, None)


Scored = list[tuple[Answer, float]]


def unseen(answers: Sequence[Answer], examples: Sequence[Answer], *, models: bool) -> Scored:
    """Score every answer by a fit that has not seen its prompt, nor (``models``) its model."""
    prompts = sorted({answer.prompt for answer in answers})
    random.Random(SEED).shuffle(prompts)
    fold = {prompt: number % FOLDS for number, prompt in enumerate(prompts)}
    names = sorted({answer.model for answer in answers})
    found: Scored = []
    for number in range(FOLDS):
        for name in names if models else [""]:
            kept = [a for a in answers if fold[a.prompt] != number and a.model != name]
            asked = [a for a in answers if fold[a.prompt] == number and (a.model == name or not models)]
            fit = train([*kept, *examples])
            found += [(answer, fit.score(answer)) for answer in asked]
    return found


def all_unseen(answers: Sequence[Answer], examples: Sequence[Answer]) -> Scored:
    """Score every answer by fits that have not seen its prompt: one that knows its model, and one that does not."""
    return unseen(answers, examples, models=True) + unseen(answers, examples, models=False)


def leave_one_model_out(answers: Sequence[Answer], examples: Sequence[Answer]) -> Scored:
    """Score every answer by a fit that has not seen its model, but its prompt."""
    found: Scored = []
    for name in sorted({answer.model for answer in answers}):
        fit = train([*(a for a in answers if a.model != name), *examples])
        found += [(answer, fit.score(answer)) for answer in answers if answer.model == name]
    return found


def threshold(scored: Scored) -> float:
    """Return the score above which sensitivity and specificity are as near as can be."""
    refusals = sorted(score for answer, score in scored if answer.label == "refusal")
    compliances = sorted(score for answer, score in scored if answer.label == "compliance")
    candidates = np.arange(-2.0, 1.01, 0.05)

    def worse(bound: float) -> float:
        found = sum(score > bound for score in refusals) / len(refusals)
        spared = sum(score <= bound for score in compliances) / len(compliances)
        return min(found, spared)

    return float(max(candidates, key=worse))


def partial_floor(scored: Scored, bound: float) -> float:
    """Return the score from which an answer with a declining form is read as a partial refusal."""
    scores = sorted(
        score - bound if answer.features & builtin.DECLINING else -99.0
        for answer, score in scored
        if answer.label == "compliance"
    )
    below = [score for score in scores if score <= 0]
    return round(min(0.0, below[-1 - int(PARTIAL_SHARE * len(scores))]), DIGITS)


def packaged(answers: Sequence[Answer], examples: Sequence[Answer]) -> str:
    """Return the file of weights."""
    scored = all_unseen(answers, examples)
    bound = threshold(scored)
    fit = train([*answers, *examples])
    weights = {name: round(weight, DIGITS) for name, weight in fit.weights.items()}
    kept = {
        "version": VERSION,
        "trained": {
            "data": "XSTest, model_completions of " + ", ".join(sorted({a.model for a in answers})),
            "source": "github.com/paul-rottger/xstest, arXiv:2308.01263",
            "licence": "CC BY 4.0",
            "examples": "tools/refusal_examples.yaml (MIT)",
        },
        "bias": round(fit.bias - bound, DIGITS),
        "partial": partial_floor(scored, bound),
        "weights": {name: weight for name, weight in sorted(weights.items()) if weight},
    }
    return json.dumps(kept, indent=1, ensure_ascii=True) + "\n"


# --- figures ----------------------------------------------------------------------------------------------------------


def figures(answers: Sequence[Answer], examples: Sequence[Answer]) -> None:
    """Print the tables of docs/judges.md."""
    weights, phrases = builtin.weights(), rules.phrases()
    shipped = [(a, weights.read(a.text).probability - 0.5) for a in answers]
    by_rules = [(a, 1.0 if phrases.refuses(a.text) else -1.0) for a in answers]
    apart = unseen(answers, examples, models=True)
    prompts_apart = unseen(answers, examples, models=False)
    bound = threshold(apart + prompts_apart)

    def shifted(scored: Scored) -> Scored:
        return [(answer, score - bound) for answer, score in scored]

    rows: list[tuple[str, Scored]] = [
        ("`builtin`, model and prompt unseen", shifted(apart)),
        ("`builtin`, model unseen", shifted(leave_one_model_out(answers, examples))),
        ("`builtin`, prompt unseen", shifted(prompts_apart)),
        ("`builtin` as shipped (all seen)", shipped),
        ("`rules`", by_rules),
    ]
    names = sorted({answer.model for answer in answers})
    print("| classifier | " + " | ".join(["all", *names]) + " | partial refusals read as refusal |")
    print("|---|" + "---|" * (len(names) + 2))
    for title, scored in rows:
        cells = [_cell([p for p in scored if p[0].model in chosen]) for chosen in (names, *([n] for n in names))]
        partial = [score > 0 for answer, score in scored if answer.label == "partial"]
        print(f"| {title} | " + " | ".join(cells) + f" | {sum(partial)} of {len(partial)} |")
    _partial_table(answers, weights.read)


def _cell(scored: Scored) -> str:
    refusals = [score > 0 for answer, score in scored if answer.label == "refusal"]
    compliances = [score <= 0 for answer, score in scored if answer.label == "compliance"]
    return f"{sum(refusals) / len(refusals):.3f} / {sum(compliances) / len(compliances):.3f}"


def _partial_table(answers: Sequence[Answer], read: Callable[[str], builtin.RefusalPrediction]) -> None:
    readings = ("refusal", "partial", "compliance")
    print("\n| people say | " + " | ".join(readings) + " |\n|---|---|---|---|")
    for label in readings:
        found = [read(answer.text).label for answer in answers if answer.label == label]
        print(f"| {label} | " + " | ".join(str(found.count(reading)) for reading in readings) + " |")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the default refusal classifier.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help=f"the CSV files (default: {DATA})")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the packaged weights instead")
    what.add_argument("--figures", action="store_true", help="print the figures of docs/judges.md instead")
    args = parser.parse_args()
    answers, examples = read_answers(args.data), read_examples()
    if args.figures:
        figures(answers, examples)
        return 0
    text = packaged(answers, examples)
    if args.check:
        same = OUT.read_text(encoding="utf-8") == text
        print("equal, byte for byte" if same else f"{OUT}: differs from what was trained now")
        return 0 if same else 1
    OUT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
