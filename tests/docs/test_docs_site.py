"""The documentation builds as a site without a warning, and the site needs no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import ROOT, anchors_of

_LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
_ELSEWHERE = re.compile(r"^(https?:)?//")


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site with every Python warning an error."""
    command = [sys.executable, "-W", "error", "-m", "mkdocs", "build", "--strict", "-f", str(root / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement on standard error, not a warning
    return subprocess.run(
        [*command, "-d", str(site)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    result = build(ROOT, where)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return where


class Loaded(HTMLParser):
    """What a page loads, and the ids that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.addresses += [value for value in (found.get(_LOADING.get(tag, "")), found.get("srcset")) if value]
        self.ids |= {value for value in (found.get("id"),) if value}


def pages_of(site: Path) -> dict[str, Loaded]:
    return {p.relative_to(site).as_posix(): Loaded(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}


def from_elsewhere(site: Path) -> list[str]:
    """Return all that pages and styles load from another server."""
    found = [f"{page}: {a}" for page, loaded in pages_of(site).items() for a in loaded.addresses if _ELSEWHERE.match(a)]
    for style in [*site.rglob("*.css"), *site.rglob("*.html")]:
        text = style.read_text(encoding="utf-8")
        found += [
            f"{style.name}: {a}" for a in re.findall(r"(?:url\(|@import )\s*[\"']?((?:https?:)?//[^\"')]*)", text)
        ]
    return found


def test_the_site_has_every_page(site: Path) -> None:
    built = {page.name for page in site.glob("*.html")} - {"404.html"}
    assert built == {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")}


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    assert sum(len(loaded.addresses) for loaded in pages_of(site).values()) > 50
    assert from_elsewhere(site) == []


def test_a_font_from_elsewhere_would_be_found(site: Path, tmp_path: Path) -> None:
    for name, text in {
        "a.html": '<link rel="stylesheet" href="https://fonts.example/css">',
        "b.html": '<script src="//cdn.example/x.js"></script>',
        "c.css": "@import url(https://fonts.example/x.css);",
    }.items():
        (tmp_path / name).write_text(text)
    assert len(from_elsewhere(tmp_path)) == 3


def test_anchors_are_those_of_github(site: Path) -> None:
    """One link leads to the same heading in the repository and in the site."""
    for page in (ROOT / "docs").glob("*.md"):
        loaded = pages_of(site)[f"{page.stem}.html"]
        assert anchors_of(page) <= loaded.ids, page.name


def test_lists_and_tables_are_no_plain_text(site: Path) -> None:
    """Python-Markdown wants an empty line where GitHub wants none."""
    for page in site.glob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"<p>[^<]*\n(?:[-*] |\|)", text), page.name


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["[gone](gone.md)", "[gone](gates.md#gone)"])
def test_a_broken_link_fails_the_build(tmp_path: Path, mistake: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs" / "concepts.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{mistake}\n", encoding="utf-8")
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode == 1
    assert "gone" in result.stderr
