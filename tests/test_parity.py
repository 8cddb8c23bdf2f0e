"""All 16,441 recorded responses through suites, samples, scorers and metrics, against the numbers of both readings."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import recorded
from moved import MOVED
from recorded import needs_recorded

from pytest_trustllm.config.paths import shipped
from pytest_trustllm.engine.runner import Runner
from pytest_trustllm.metrics.observations import observed_by_task
from pytest_trustllm.registry import Registry
from pytest_trustllm.results.document import RunNumbers
from pytest_trustllm.suites.reader import read_suite
from pytest_trustllm.suites.rows import Archive
from pytest_trustllm.suites.samples import DataSource
from pytest_trustllm.suites.task import Suite, Task
from pytest_trustllm.types import MetricValue, Request, Response, Selection

pytestmark = needs_recorded


class Recorded:
    """Stands in for the model under test: the recorded responses, found by data file and row."""

    def __init__(self, responses: Mapping[str, list[str | None]]) -> None:
        self.responses = responses

    async def ask(self, request: Request, accept: object = None) -> Response:
        assert request.origin is not None
        file, row = request.origin
        return Response(text=self.responses[file][row])


class Role:
    """Stands in for the model of one role."""

    def __init__(self, answer: Callable[[str], Response]) -> None:
        self.answer = cache(answer)

    async def ask(self, request: Request, accept: object = None) -> Response:
        ((speaker, text),) = request.messages
        assert speaker == "user"
        return self.answer(text)


class Judge(Role):
    """The recorded judge; counts what it had to guess because a string rule should have decided."""

    def __init__(self, server: ModuleType) -> None:
        super().__init__(self.reply)
        self.server = server
        self.guesses: list[str] = []
        self.asked = 0

    def reply(self, text: str) -> Response:
        answer, guessed = self.server.judge(text)
        self.asked += 1
        if guessed:
            self.guesses.append(text[-300:])
        return Response(error="HTTP 500") if answer is None else Response(text=answer)


@pytest.fixture(scope="module")
def suites() -> list[Suite]:
    return [read_suite(path, Registry()) for path in sorted(shipped("suites").glob("*.yaml"))]


@pytest.fixture(scope="module")
def responses(suites: list[Suite]) -> Mapping[str, list[str | None]]:
    archive = Archive(recorded.RESPONSES, "responses")
    files = {task.data.trustllm for suite in suites for task in suite.tasks} - {None}
    return {file: [row["res"] for row in archive.rows(file)] for file in sorted(files)}


@pytest.fixture(scope="module")
def server() -> ModuleType:
    return recorded.server_module()


@pytest.fixture(scope="module")
def labels(responses: Mapping[str, list[str | None]]) -> dict[str, str]:
    """Classify every text that can come up, deduplicated and in batches of similar length."""
    torch = pytest.importorskip("torch", reason="the refusal classifier needs torch")
    transformers = pytest.importorskip("transformers", reason="the refusal classifier needs transformers")
    where = str(recorded.CLASSIFIER)
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
def judge(server: ModuleType) -> Judge:
    return Judge(server)


@pytest.fixture(scope="module")
def results(
    suites: list[Suite],
    responses: Mapping[str, list[str | None]],
    server: ModuleType,
    labels: Mapping[str, str],
    judge: Judge,
) -> dict[str, MetricValue]:
    roles = {
        "judge": judge,
        "refusal": Role(lambda text: Response(text=labels[text])),
        "embedder": Role(lambda text: Response(vector=tuple(server.embed(text)))),
        "toxicity": Role(lambda text: Response(number=server.toxicity(text))),
    }
    runner = Runner(Recorded(responses), roles, 0)  # type: ignore[arg-type]
    tasks = [task for suite in suites for task in suite.tasks]
    data = DataSource(Archive(recorded.DATA, "data"))
    records = asyncio.run(_records(runner, tasks, data))
    assert not [r for r in records if "raised" in (r["reason"] or "")]
    counts = Counter(r["task"] for r in records)
    return RunNumbers(tasks, observed_by_task(records), Selection(counts, counts)).metrics


async def _records(runner: Runner, tasks: Sequence[Task], data: DataSource) -> list[Mapping[str, Any]]:
    found = []
    for task in tasks:
        if task.reads is None:
            readers = [t for t in tasks if t.reads is not None and t.answers_from == task.id]
            for entry in data.entries(task):
                outcome = await runner.run(task, data.sample(task, entry), readers)
                found.append(outcome.record)
    return found


@pytest.mark.parametrize("key", recorded.KEYS)
def test_value_and_parity(key: str, results: dict[str, MetricValue]) -> None:
    recorded.check(key, lambda id_, reading: getattr(results[id_], reading))


@pytest.mark.parametrize("key", MOVED)
def test_every_exception_is_one_and_says_why(key: str) -> None:
    value, reason = MOVED[key]
    assert value != pytest.approx(recorded.EXPECTED[key]["expected"], abs=recorded.TOLERANCE, rel=0)
    assert "was" in reason or "were" in reason


def test_only_optional_metrics_are_left_out() -> None:
    assert recorded.OPTIONAL == ["extra/awareness.mission_open_ended"]


def test_no_response_that_a_rule_decides_was_judged(results: object, judge: Judge) -> None:
    assert judge.asked
    assert judge.guesses == []


def test_every_row_is_asked_once(suites: list[Suite], responses: Mapping[str, list[str | None]]) -> None:
    data = DataSource(Archive(recorded.DATA, "data"))
    tasks = [t for s in suites for t in s.tasks if t.reads is None]
    entries = {t.id: data.entries(t) for t in tasks}
    rows = {(t.data.trustllm, n) for t in tasks for e in entries[t.id] for n in e.numbers}
    assert len(rows) == 16_441 == sum(map(len, responses.values()))
    assert sum(map(len, entries.values())) == 15_815
