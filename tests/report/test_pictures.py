"""The pictures that README and docs show, taken of real reports.

They are written to docs/images if the environment variable PICTURES is set; otherwise the test sees that the committed
ones are pictures of pages like today's.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from chromium import Browser

pytestmark = pytest.mark.slow
IMAGES = Path(__file__).parents[2] / "docs" / "images"


def size(png: bytes) -> tuple[int, int]:
    """Return width and height of a PNG."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def report(window: Browser, reports: Path) -> None:
    window.size(1200, 1150)
    window.open(reports / "demo.html")


def comparison(window: Browser, reports: Path) -> None:
    window.size(1200, 800)
    window.open(reports / "failing.html")
    window.click(".row[aria-selected]")
    window.until(lambda: len(window.texts("#detail .sides section")) == 2, "both answers")
    window.js("document.querySelector('#items').scrollIntoView()")


@pytest.mark.parametrize("take", [report, comparison], ids=lambda t: t.__name__)
def test_a_picture_is_of_todays_page(window: Browser, reports: Path, take: object) -> None:
    assert callable(take)
    window.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    take(window, reports)
    window.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": False})
    png = window.driver.get_screenshot_as_png()
    file = IMAGES / f"{take.__name__}.png"
    if os.environ.get("PICTURES"):
        file.write_bytes(png)
    committed = file.read_bytes()
    assert size(committed) == size(png)
    assert 0.8 < len(committed) / len(png) < 1.25  # a page that looks otherwise packs otherwise
