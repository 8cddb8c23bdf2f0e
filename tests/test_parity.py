"""All 16,441 recorded responses through suites, samples, scorers and metrics, against the numbers of both readings."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_trustllm.dataset import Archive
from pytest_trustllm.metrics.reading import compute
from pytest_trustllm.records import RAISES, Question, Response, Sample, Score
from pytest_trustllm.registry import Registry
from pytest_trustllm.samples import Data
from pytest_trustllm.suites import MetricSpec, Suite, Task, read_suite

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
ORACLE = SHARED / "oracle"
SUITES = ROOT / "suites"
EXPECTED: dict[str, Any] = json.loads((ORACLE / "expected.json").read_text()) if ORACLE.is_dir() else {}
IDS: dict[str, Any] = json.loads((ORACLE / "metric_ids.json").read_text()) if ORACLE.is_dir() else {}
TOLERANCE = 1e-9

pytestmark = pytest.mark.skipif(not EXPECTED, reason=f"needs the recorded responses in {SHARED}, beside the repository")


class Roles:
    """Answers questions with the recorded stand-ins for judge, embedder, rater and classifier."""

    def __init__(self, server: ModuleType, labels: Mapping[str, str]) -> None:
        self.server = server
        self.labels = labels
        self.judged = 0
        self.fallbacks: list[str] = []

    def __call__(self, question: Question) -> Response:
        ((speaker, text),) = question.messages
        assert speaker == "user"
        response = getattr(self, question.role)(text)
        if response.error is None and question.accept is not None and not question.accept(response):
            ((_, again),) = question.retry or question.messages
            response = getattr(self, question.role)(again)
        return response

    def judge(self, text: str) -> Response:
        answer, fallback = self.server.judge(text)
        self.judged += 1
        if fallback:
            self.fallbacks.append(text[-300:])
        return Response(error="HTTP 500") if answer is None else Response(text=answer)

    def refusal(self, text: str) -> Response:
        return Response(text=self.labels[text])

    def embedder(self, text: str) -> Response:
        assert text
        return Response(vector=tuple(self.embedding(text)))

    @cache  # noqa: B019 - one object per session
    def embedding(self, text: str) -> Sequence[float]:
        return self.server.embed(text)

    def toxicity(self, text: str) -> Response:
        assert text.strip()
        return Response(number=self.server.toxicity(text))


@pytest.fixture(scope="module")
def suites() -> list[Suite]:
    return [read_suite(path, Registry()) for path in sorted(SUITES.glob("*.yaml"))]


@pytest.fixture(scope="module")
def responses() -> Mapping[str, list[str | None]]:
    archive = Archive(ORACLE / "responses.zip", "responses")
    files = [f"{s}/{n}" for s, n in re.findall(r"(\w+)/(\w+\.json)", " ".join(archive._members))]
    return {file: [row["res"] for row in archive.rows(file)] for file in files}


@pytest.fixture(scope="module")
def server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recorded_server", ORACLE / "fake_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def labels(responses: Mapping[str, list[str | None]]) -> dict[str, str]:
    """Classify every text that can come up, deduplicated and in batches of similar length."""
    torch = pytest.importorskip("torch", reason="the refusal classifier needs torch")
    transformers = pytest.importorskip("transformers", reason="the refusal classifier needs transformers")
    where = str(ORACLE / "refusal-classifier")
    tokenizer = transformers.AutoTokenizer.from_pretrained(where)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(where, dtype=torch.float32).eval()
    files = ("jailbreak", "exaggerated", "misuse", "stereotype_query", "preference", "ood_detection", "query", "moral")
    texts = {t for file, found in responses.items() if any(f in file for f in files) for t in found if t is not None}
    ordered = sorted(texts, key=lambda t: (len(t), t))
    found: dict[str, str] = {}
    with torch.inference_mode():
        for start in range(0, len(ordered), 64):
            batch = ordered[start : start + 64]
            inputs = tokenizer(batch, return_tensors="pt", padding=True, truncation=True, max_length=4096)
            best = model(**inputs).logits.argmax(-1).tolist()
            found.update(zip(batch, (("refusal", "compliance")[b] for b in best), strict=True))
    return found


@pytest.fixture(scope="module")
def roles(server: ModuleType, labels: dict[str, str]) -> Roles:
    return Roles(server, labels)


@pytest.fixture(scope="module")
def results(
    suites: list[Suite], responses: Mapping[str, list[str | None]], roles: Roles
) -> dict[str, dict[str, float | None]]:
    data = Data(Archive(SHARED / "trustllm" / "dataset.zip", "data"))
    found: dict[str, dict[str, float | None]] = {}
    for suite in suites:
        for task in suite.tasks:
            asked = next(t for t in suite.tasks if t.name == (task.reads or task.name))
            samples = [data.sample(asked, entry) for entry in data.entries(asked)]
            scored = [(s, _score(task, s, responses, roles)) for s in samples]
            for spec in task.metrics:
                found.update(_metric(task, spec, scored))
    return found


def _score(task: Task, sample: Sample, responses: Mapping[str, list[str | None]], roles: Roles) -> Score:
    replies = [Response(text=responses[file][row]) for file, row in sample.origins]
    step = task.scorer.score(sample, replies)
    if not isinstance(step, Generator):
        return step
    answers: list[Response] | None = None
    while True:
        try:
            questions = step.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value
        answers = [roles(q) for q in questions]


def _metric(
    task: Task, spec: MetricSpec, scored: Sequence[tuple[Sample, Score]]
) -> Iterator[tuple[str, dict[str, float | None]]]:
    chosen = [(s, x) for s, x in scored if all(s.group[k] == v for k, v in spec.where.items())]
    names = [name for name in task.group if name not in spec.where]
    yield task.metric_id(spec.name), _readings(spec, chosen, names[0] if names else None)
    for name in names:
        for value in sorted({s.group[name] for s, _ in chosen}):
            part = [(s, x) for s, x in chosen if s.group[name] == value]
            yield f"{task.metric_id(spec.name)}{{{name}={value}}}", _readings(spec, part, name)


def _readings(spec: MetricSpec, scored: Sequence[tuple[Sample, Score]], by: str | None) -> dict[str, float | None]:
    ours, theirs, raised = [], [], False
    for sample, score in scored:
        here = {**score.observed, "value": score.value, "group": sample.group}
        if score.value is not None:
            ours.append(here)
        if score.parity == "same" and score.value is not None:
            theirs.append(here)
        elif isinstance(score.parity, Mapping):
            theirs.append({**score.parity, "group": sample.group})
        raised = raised or score.parity == RAISES
    groups = sorted({s.group[by] for s, _ in scored}) if by else []
    return {
        "value": compute(spec.value, ours, groups, by),
        "parity": None if raised else compute(spec.parity, theirs, groups, by),
        "scored": len(ours),
    }


def _wanted(key: str) -> tuple[str, str]:
    """Return the metric id of an upstream key, and which of its readings is the number."""
    read = IDS[key].get("read")
    if read is None:
        return IDS[key]["id"], "value"
    found = re.fullmatch(r'metrics\["(.+)"\]\["(\w+)"\]', read)
    assert found is not None
    return found[1], found[2]


@pytest.mark.parametrize("key", [k for k in EXPECTED if not IDS[k].get("optional")])
def test_value_and_parity(key: str, results: dict[str, dict[str, float | None]]) -> None:
    id_, reading = _wanted(key)
    assert id_ in results
    found = results[id_]
    assert found[reading] == pytest.approx(EXPECTED[key]["expected"], abs=TOLERANCE, rel=0)
    upstream = EXPECTED[key]["upstream"]
    if upstream is not None:
        if IDS[key].get("parity") == "1 - upstream":
            upstream = 1 - upstream
        assert found["parity"] == pytest.approx(upstream, abs=TOLERANCE, rel=0)


def test_only_optional_metrics_are_left_out() -> None:
    assert [k for k in EXPECTED if IDS[k].get("optional")] == ["extra/awareness.mission_open_ended"]


def test_no_response_that_a_rule_decides_was_judged(results: object, roles: Roles) -> None:
    assert roles.judged
    assert roles.fallbacks == []


def test_every_row_is_asked_once(suites: list[Suite], responses: Mapping[str, list[str | None]]) -> None:
    data = Data(Archive(SHARED / "trustllm" / "dataset.zip", "data"))
    tasks = [t for s in suites for t in s.tasks if t.reads is None]
    entries = {t.id: data.entries(t) for t in tasks}
    rows = {(t.data.trustllm, n) for t in tasks for e in entries[t.id] for n in e.numbers}
    assert len(rows) == 16_441 == sum(map(len, responses.values()))
    assert sum(map(len, entries.values())) == 15_815
