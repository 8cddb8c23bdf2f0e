"""The pages about the report and CI: links lead somewhere, recipes are YAML, and flags exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pytest_trustllm.cli import parser
from pytest_trustllm.plugin import options

ROOT = Path(__file__).parent.parent
PAGES = ["docs/report.md", "docs/ci.md"]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES)
def test_flags_and_commands_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    known = {f"--trust-{name}" for name, _, _ in options._FLAGS}
    assert set(re.findall(r"--trust-[a-z-]*[a-z]", text)) <= known
    for command in set(re.findall(r"pytest-trustllm ([a-z-]+) [a-z.]", text)):
        assert re.search(rf"^    {command} ", parser().format_help(), re.MULTILINE), command


def test_recipes_are_yaml() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)
    jobs = [yaml.safe_load(block) for block in blocks]
    assert len(jobs) == 5
    assert all(isinstance(job, dict) for job in jobs)


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.png")), ids=lambda p: p.name)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < 200_000
