"""The OpenAI client as the model under test, against a server of another hand on loopback."""

from __future__ import annotations

import json

import pytest
import recorded
from recorded import needs_recorded

pytestmark = [needs_recorded, pytest.mark.slow]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_any_model_of_the_server_is_asked_real_items(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    pytest.importorskip("openai", reason="needs openai; pip install 'pytest-trustllm[test]'")
    arguments = (f"--trust-data={recorded.DATA}", "--trust-limit=3", "--trust-results=r.json", "-n", workers)
    with recorded.serving() as url:
        for name, value in recorded.environment(url).items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest_subprocess("--trust-model=openai:any", *arguments, timeout=240)
        first = json.loads((pytester.path / "r.json").read_text())
        asked = recorded.stats(url)["chat"]
        again = pytester.runpytest_subprocess("--trust-model=openai:any", *arguments, timeout=240)
        assert recorded.stats(url)["chat"] == asked  # the answers of the first run were kept
    for run in (result, again):
        assert run.ret == pytest.ExitCode.OK  # a part of the samples judges no gate
        assert "Traceback" not in run.stdout.str() + run.stderr.str()
    found = json.loads((pytester.path / "r.json").read_text())
    lines = [json.loads(line) for line in (pytester.path / "r.samples.jsonl").read_text().splitlines()]
    answers = [response for line in lines for response in line["responses"]]
    assert all(response["text"] and response["cached"] for response in answers)
    prompts = {json.dumps(prompt) for line in lines for prompt in line["prompts"]}
    # one prompt may be asked with two seeds; two equal requests are asked once
    assert len(prompts) <= asked == first["usage"]["requests"] <= len(answers)
    assert (found["usage"]["requests"], found["usage"]["cached"]) == (0, len(answers))
    assert found["run"]["selection"] == "partial"
    # the server's answers are labels picked by chance: whole tasks can be read, and nobody was counted as zero
    for metric in found["metrics"].values():
        assert metric["scored"] + metric["unscored"] == metric["expected"]
        assert (metric["value"] is None) >= (metric["scored"] == 0)
