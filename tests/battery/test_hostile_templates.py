"""Templates of suites and models that compute for ever or fill the memory: stopped, with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from pathlib import Path

import pytest

from pytest_trustllm.config import templates, time_limit
from pytest_trustllm.config.templates import rendered
from pytest_trustllm.errors import SuiteError, TrustLLMError
from pytest_trustllm.registry import Registry
from pytest_trustllm.suites.reader import read_suite

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ q }}"
TEXTS = {
    "a loop": (ENDLESS, "not rendered within 0.3 s"),
    "a power": ("{{ 9 ** (9 ** 9) }}", r"the result of \*\* is too large"),
    "a power of a fraction": ("{{ 2 ** 1e300 }}", r"the result of \*\* is too large"),
    "a long text": ("{{ 'a' * 9999999999 }}", r"the result of \* is too large"),
    "a long list": ("{{ [1] * 9999999999 }}", r"the result of \* is too large"),
    "digits": ("{{ 10 ** 9000000 }}", r"the result of \*\* is too large"),
    "words for ever": ("{{ lipsum(n=300000) }}", "'lipsum' is undefined"),
    "a width in per cent": ("{{ '%2000000000d' % 1 }}", "the result of % is too large"),
    "a precision in per cent": ("{{ '%.2000000000f' % 1 }}", "the result of % is too large"),
    "a given width in per cent": ("{{ '%*d' % (2000000000, 1) }}", "the result of % is too large"),
    "a method's width": ("{{ 'a'.ljust(2000000000) }}", r"the result of ljust\(\) is too large"),
    "a field's zeros": ("{{ q.zfill(2000000000) }}", r"the result of zfill\(\) is too large"),
    "bytes of a number": ("{{ (1).to_bytes(2000000000, 'big') }}", r"the result of to_bytes\(\) is too large"),
    "a format": ("{{ '{:2000000000}'.format(1) }}", r"the result of format\(\) is too large"),
    "a given format": ("{{ '{:{w}}'.format(1, w='2000000000') }}", r"the result of format\(\) is too large"),
    "a mapping's format": ("{{ '{a:{w}}'.format_map({'a': 1, 'w': 2000000000}) }}", r"format_map\(\) is too large"),
    "tabs": ("{{ ('\t' * 1000).expandtabs(1000000) }}", r"the result of expandtabs\(\) is too large"),
    "texts for letters": (
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        r"the result of replace\(\) is too large",
    ),
    "texts by table": ("{{ ('a' * 10000).translate({97: 'b' * 10000}) }}", r"the result of translate\(\) is too large"),
    "a long separator": ("{{ ('a' * 1000000).join(['x'] * 1000) }}", r"the result of join\(\) is too large"),
    "a filter's width": ("{{ q|center(2000000000) }}", "the result of the filter center is too large"),
    "a filter's separator": ("{{ (['x'] * 1000)|join('a' * 1000000) }}", "the result of the filter join is too large"),
    "a filter's texts": (
        "{{ ('a' * 10000)|replace('a', 'b' * 10000) }}",
        "the result of the filter replace is too large",
    ),
    "an indentation": ("{{ ('a\n' * 1000)|indent(1000000) }}", "the result of the filter indent is too large"),
    "a filled list": ("{{ [1]|batch(2000000000, 'x')|list }}", "the result of the filter batch is too large"),
    "doubled": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "the text is",
    ),
    "doubled by a sum": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        r"the result of \+ is too large",
    ),
    "doubled in a block": (
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
        "the text is too large",
    ),
    "a long prompt": ("{% for i in range(99) %}{{ 'a' * 999999 }}{% endfor %}", "the text is too large"),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    monkeypatch.setattr(time_limit.time_limit.__wrapped__, "__defaults__", (0.3,))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TEXTS)
def test_a_template_that_does_not_end_is_stopped(name: str) -> None:
    template, reason = TEXTS[name]
    start = time.monotonic()
    with pytest.raises(TrustLLMError, match=reason):
        rendered(template, {"q": "x"})
    assert time.monotonic() - start < 10


def test_a_template_that_took_too_long_is_not_tried_for_every_row() -> None:
    template = ENDLESS + "{# tried once #}"
    with pytest.raises(TrustLLMError, match="not rendered within"):
        rendered(template, {"q": "x"})
    start = time.monotonic()
    for number in range(1000):
        with pytest.raises(TrustLLMError, match="not rendered within"):
            rendered(template, {"q": number})
    assert time.monotonic() - start < 10


DEEP = {
    "parentheses": "{{ " + "(" * 5000 + "q" + ")" * 5000 + " }}",
    "fewer parentheses": "{{ " + "(" * 150 + "q" + ")" * 150 + " }}",
    "conditions": "{% if q %}" * 3000 + "{% endif %}" * 3000,
    "a chain of not": "{{ " + "not " * 20_000 + "q }}",
    "a sum": "{{ q" + " + 1" * 3000 + " }}",
    "filters": "{{ q" + "|e" * 3000 + " }}",
}


@pytest.mark.parametrize("name", DEEP)
def test_a_template_that_is_nested_too_deeply_is_broken(tmp_path: Path, name: str) -> None:
    suite = {
        "dimension": "safety",
        "tasks": [
            {"name": "t", "data": {"samples": [{"q": 1, "label": "a"}]}, "prompt": DEEP[name], "scorer": "contains",
             "metrics": ["accuracy"]},
        ],
    }  # fmt: skip
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps(suite), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"tasks\[0\]\.prompt: broken template: nested too deeply"):
        read_suite(path, Registry())


def test_what_is_ordinary_is_rendered() -> None:
    template = "{% for i in range(3) %}{{ q * 2 }}{{ i * 1.5 }} {{ 2 ** 10 }};{% endfor %}"
    assert rendered(template, {"q": "x"}) == "xx0.0 1024;xx1.5 1024;xx3.0 1024;"
    assert rendered("{{ q ~ 1 ~ none }}{{ 1 + 2 }}{{ q + 'y' }}{{ 20000000 + 1 }}", {"q": "x"}) == "x1None3xy20000001"
    call = "Call 15551234567: %s, %5.1f|{:>4}|{}"
    assert rendered("{{ call % ('me', 2.25) }}", {"call": call}).startswith("Call 15551234567: me,   2.2|")
    assert rendered("{{ '{:>4}|{} 15551234567'.format(q, 15551234567) }}", {"q": "x"}) == "   x|15551234567 15551234567"
    listed = "{{ q|join(', ') }} {{ q|length }} {{ none|default(20000000) }} {{ q[0]|replace('a', 'bb')|center(6) }}|"
    assert rendered(listed, {"q": ["a", "c"]}) == "a, c 2 None   bb  |"
    assert (
        rendered("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(q) }}{{ q|indent(2) }}", {"q": "a\nb"}) == "<a\nb>a\n  b"
    )


def test_a_time_limit_holds_in_any_thread_and_for_its_own_alone() -> None:
    reasons: list[str] = []

    def loop(seconds: float) -> None:
        try:
            with time_limit.time_limit(TimeoutError(f"{seconds:g} s"), seconds):
                while True:
                    pass
        except TimeoutError as e:
            reasons.append(str(e))

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(loop, seconds) for seconds in (0.1, 0.4)))

    asyncio.run(both())
    assert reasons == ["0.1 s", "0.4 s"]
    before = threading.active_count()  # servers of other tests have some too
    for _ in range(20):
        with contextlib.suppress(TimeoutError), time_limit.time_limit(TimeoutError("no"), 0.1):
            time.sleep(0.1)
    assert threading.active_count() < before + 10


@pytest.mark.slow
def test_a_models_template_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json
    import shutil

    pytest.importorskip("transformers")
    from pytest_trustllm.config import paths
    from pytest_trustllm.errors import ModelError
    from pytest_trustllm.models.base import LoadSettings, ModelSpec
    from pytest_trustllm.models.local.huggingface import PROVIDER

    demo = next(path.parent for path in paths.packaged().rglob("config.json"))

    def load(name: str, **changes: object) -> None:
        directory = tmp_path / name
        shutil.copytree(demo, directory)
        for file, keys in changes.items():
            path = directory / f"{file}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))  # type: ignore[dict-item]
        PROVIDER.load(ModelSpec("m", "hf", str(directory), None, "chat", {}), LoadSettings(device="cpu"))

    load("good")
    for number, keys in enumerate(
        ({"num_hidden_layers": 10**9}, {"vocab_size": 10**12}, {"vocab_size": 10**8 - 1}, {"hidden_size": 10**7})
    ):
        with pytest.raises(ModelError, match=r"its configuration says|too few for the sizes in its configuration"):
            load(f"sizes{number}", config=keys)
    endless = tmp_path / "endless"
    shutil.copytree(demo, endless)
    (endless / "chat_template.jinja").write_text(ENDLESS)
    with pytest.raises(ModelError, match=r"the chat template cannot be rendered: not rendered within"):
        PROVIDER.load(ModelSpec("m", "hf", str(endless), None, "chat", {}), LoadSettings(device="cpu"))
    pickled = tmp_path / "pickled"
    shutil.copytree(demo, pickled)
    for file in pickled.glob("*.safetensors"):
        file.rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"it has no weights in safetensors files.*allow_pickle: true"):
        PROVIDER.load(ModelSpec("m", "hf", str(pickled), None, "chat", {}), LoadSettings(device="cpu"))
