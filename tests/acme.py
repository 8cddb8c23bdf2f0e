"""A small distribution that extends the package, built as a wheel and unpacked: what ``pip install`` leaves behind."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "acme-trust"
        version = "1.0"
        [project.entry-points.pytest_trustllm]
        acme = "acme_hooks"
        [project.entry-points."pytest_trustllm.suites"]
        acme = "acme_trust"
        [tool.hatch.build.targets.wheel]
        only-include = ["acme_trust", "acme_hooks.py"]
    """,
    "acme_trust/__init__.py": "raise RuntimeError('locating suites must not run code of the package')\n",
    "acme_trust/suites/manners.yaml": """
        dimension: manners
        tasks:
          - name: greetings
            data: {samples: greetings.jsonl}
            scorer: {name: acme_word, wanted: good}
            metrics: [{name: said, kind: acme_mean}]
          - name: opinions
            data: {samples: [{prompt: good}]}
            scorer: acme_judged
            metrics: [{name: polite, kind: mean}]
    """,
    "acme_trust/suites/greetings.jsonl": '{"prompt": "good morning"}\n{"prompt": "bad evening"}\n',
    "acme_trust/thresholds/manners.yaml": """
        dimension: manners
        gates:
          - {metric: greetings.said, at_least: 0.4}
    """,
    "acme_hooks.py": """
        from dataclasses import dataclass
        from typing import ClassVar

        from pytest_trustllm import BaseProvider, Question, Response, Score


        @dataclass(frozen=True)
        class Word:
            wanted: str = "good"
            roles: ClassVar = ()

            def score(self, sample, replies):
                said = self.wanted in replies[0].text
                return Score(float(said), said)


        @dataclass(frozen=True)
        class Judged:
            roles: ClassVar = ("judge",)

            def score(self, sample, replies):
                (reply,) = yield [Question("judge", (("user", replies[0].text),))]
                return Score(float(reply.text == "polite"), answer=reply.text)


        @dataclass(frozen=True)
        class Mean:
            higher_is_better: ClassVar = True
            range: ClassVar = (0.0, 1.0)

            def compute(self, observations):
                values = [o["value"] for o in observations]
                return sum(values) / len(values) if values else None


        class Model:
            stored = False
            max_concurrency = 1

            def __init__(self, name):
                self.info = {"provider": "acme", "id": name, "revision": None}
                self.name = name

            async def answer(self, request):
                return Response(text="polite" if self.name == "judge" else f"you said {request.text}")

            async def close(self):
                pass


        class Acme(BaseProvider):
            def load(self, spec, settings):
                return Model(spec.target)


        def pytest_trustllm_register(registry):
            registry.scorers.add("acme_word", Word)
            registry.scorers.add("acme_judged", Judged)
            registry.metrics.add("acme_mean", Mean)
            registry.providers.add("acme", Acme)
    """,
}


def installed(folder: Path) -> Path:
    """Build the wheel, unpack it, and return the directory to put on ``sys.path``."""
    source, site = folder / "source", folder / "site"
    for name, text in FILES.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def distribution(site: Path, name: str, group: str, entry: str) -> None:
    """Write what ``importlib.metadata`` reads of a distribution with one entry point."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text(f"[{group}]\n{entry}\n", encoding="utf-8")
