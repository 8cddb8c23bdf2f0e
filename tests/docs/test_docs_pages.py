"""Links lead somewhere, tables name everything that there is, pictures are small."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchors_of, links_of, without_fences

from pytest_trustllm.cli.json_schemas import schema
from pytest_trustllm.plugin import options
from pytest_trustllm.registry import METRICS, SCORERS, Registry


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_pictures_and_anchors_are_there(page: Path) -> None:
    for link in links_of(page):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name}: {link}"


def test_links_are_found() -> None:
    assert "concepts.md" in links_of(ROOT / "docs" / "index.md")
    assert "docs/images/report.png" in links_of(ROOT / "README.md")
    assert "judges-votes" in anchors_of(ROOT / "docs" / "gates.md")


def test_readme_and_index_link_to_every_page() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {Path(link.partition("#")[0]).name for link in links_of(ROOT / "docs" / "index.md")} >= pages
    assert {Path(link.partition("#")[0]).name for link in links_of(ROOT / "README.md")} >= pages


def named(page: str, heading: str) -> set[str]:
    """Return what the first column of the table after a heading has in code."""
    text = without_fences((ROOT / "docs" / page).read_text(encoding="utf-8"))
    section = re.split(r"^#+ ", text.split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    table = re.search(r"^\|.*?(?=\n\n|\Z)", section, re.MULTILINE | re.DOTALL)
    assert table is not None
    return {name for row in table[0].splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def keys(kind: str, *path: str) -> list[str]:
    """Return the keys that a kind of file, or a mapping in it, may have."""
    found = schema(kind, Registry())
    for name in path:
        found = found["properties"][name]
        found = found.get("items", found)
        found = next((f for f in found.get("anyOf", ()) if "properties" in f), found)
    return list(found["properties"])


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        ("suites.md", "The file", keys("suite")),
        ("suites.md", "A task", keys("suite", "tasks")),
        ("suites.md", "Data", keys("suite", "tasks", "data")),
        ("suites.md", "Scorers", SCORERS),
        ("suites.md", "Metrics", [name for name in METRICS if not name.startswith("upstream_")]),
        (
            "thresholds.md",
            "Every key",
            [*keys("thresholds"), *(f"coverage.{key}" for key in keys("thresholds", "coverage"))],
        ),
        ("thresholds.md", "A gate", keys("thresholds", "gates")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_names_all_that_there_is(page: str, heading: str, names: Iterable[str]) -> None:
    assert named(page, heading) == set(names)


def test_keys_of_a_metric_are_in_the_text() -> None:
    text = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
    for key in (*keys("suite", "tasks", "metrics"), *keys("suite", "tasks", "metrics", "parity")):
        assert f"`{key}`" in text, key


def test_every_flag_is_explained_somewhere() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name, _, _ in options._FLAGS if f"--trust-{name}" not in text] == []


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.png")), ids=lambda p: p.name)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < 200_000
