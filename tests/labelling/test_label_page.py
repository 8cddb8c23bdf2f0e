"""The page in a real browser: labelling with keys and mouse, hostile responses, and who may not reach it."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import Browser
from label_command import HOSTILE, Page, given
from labelled_run import people

TAB, SPACE = "\ue004", " "


@pytest.fixture
def window(browser: Browser, page: Page) -> Browser:
    """The browser with the page open."""
    browser.driver.get("about:blank")
    browser.logs(), browser.requests()
    browser.driver.get(page.address)
    shows(browser, "0 of 6")
    return browser


def shows(window: Browser, progress: str) -> None:
    """Wait until the page shows how far it is."""
    window.until(lambda: window.text("#progress").startswith(progress), progress)


def response(window: Browser) -> str:
    return window.content("pre.response")[0]


def test_everything_is_labelled_by_keys(window: Browser, page: Page, saved: Path) -> None:
    said = []
    for number in range(6):
        shows(window, f"{number} of 6")
        said.append(people(response(window)))
        window.press({"refusal": "1", "compliance": "2"}[said[-1]])
    shows(window, "6 of 6")
    assert window.texts("main pre")[0].startswith("All responses are labelled.")
    window.press("q")
    status, out = page.ended()
    assert status == 0
    assert "labels: labels.jsonl (6 of 6)" in out
    assert given(saved) == said
    assert set(said) == {"refusal", "compliance"}
    assert window.logs() == []
    origin = page.address.rpartition("/")[0]
    assert [url for url in window.requests() if not url.startswith((origin, "http://127.0.0.1"))] == []


def test_a_mouse_or_tab_and_space_do_the_same_and_a_label_can_be_changed(
    window: Browser, page: Page, saved: Path
) -> None:
    first = response(window)
    window.click("#labels button", 0)
    shows(window, "1 of 6")
    window.click("#back")
    window.until(lambda: response(window) == first, "the first response")
    assert window.js("return document.querySelector('#labels button').getAttribute('aria-pressed')") == "true"
    window.press(TAB, TAB, SPACE)  # the second label
    window.until(lambda: response(window) != first, "the second response")
    window.click("#cannot")
    shows(window, "2 of 6")
    assert given(saved) == ["refusal", "compliance", None]
    window.click("#finish")
    assert page.ended()[0] == 1  # some are left


def test_a_hostile_response_is_shown_and_does_nothing(window: Browser, page: Page) -> None:
    shown = []
    for number in range(6):
        shows(window, f"{number} of 6")
        shown.append(response(window))
        assert window.js("return document.querySelectorAll('main img, main script, main b').length") == 0
        window.press("s")
    shows(window, "6 of 6")
    hostile = [text for text in shown if "<script>" in text]
    assert hostile, "none of the six is hostile; draw others"
    assert hostile[0].replace("\ufffd", "\x00").startswith(f"I cannot {HOSTILE}")
    assert "owned" not in window.driver.title
    assert window.logs() == []


def test_nothing_tells_the_verdict(window: Browser) -> None:
    source = window.js("return document.documentElement.outerHTML")
    state = window.js("return JSON.stringify(state)")
    for word in ("verdict", "chance", "missed", "met", "score"):
        assert word not in state
    assert "expected" not in source.lower(), "what the task hopes for would lead people to it"


def test_the_page_is_accessible_in_light_and_dark(window: Browser) -> None:
    pytest.importorskip("axe_core_python")
    for dark in (False, True):
        window.media(dark=dark)
        assert window.violations() == []
    window.media()
    window.size(320, 640)
    assert window.js("return document.documentElement.scrollWidth <= 320")
    window.size(1280, 900)


def test_an_interrupted_session_goes_on_where_it_was(window: Browser, page: Page, saved: Path) -> None:
    for number in range(3):
        shows(window, f"{number} of 6")
        window.press("1")
    shows(window, "3 of 6")
    page.end(kill=True)
    assert given(saved) == ["refusal"] * 3
    window.press("2")
    window.until(lambda: window.texts("#problem"), "that nothing was saved")
    assert window.text("#problem").startswith("Not saved: ")
    assert window.text("#progress") == "3 of 6 labelled"
    again = Page(saved, 6)
    window.driver.get(again.address)
    shows(window, "3 of 6")
    window.press("2")
    shows(window, "4 of 6")
    assert again.end()[0] == 1
    assert given(saved) == ["refusal"] * 3 + ["compliance"]
    window.logs()


# --- who may not ------------------------------------------------------------------------------------------------------


def ask(
    page: Page, path: str | None = None, body: Any = None, method: str = "POST", **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """Send a request as any program can."""
    address = urlsplit(page.address)
    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    given_headers = {"Origin": f"http://{address.netloc}", "Content-Type": "application/json"}
    given_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str | None) else json.dumps(body)
    connection.request(method, address.path + "label" if path is None else path, text, given_headers)
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, reply.headers, content  # type: ignore[return-value]


LABEL = {"number": 0, "label": "refusal"}


def test_only_its_own_page_may_label(page: Page, saved: Path) -> None:
    host = urlsplit(page.address).netloc
    assert ask(page, body=LABEL, Origin="http://evil.example")[0] == 403
    assert ask(page, body=LABEL, Origin="null")[0] == 403
    assert ask(page, body=LABEL, Origin="http://localhost:" + host.partition(":")[2])[0] == 403
    assert ask(page, body=LABEL, Host="evil.example")[0] == 403
    assert ask(page, body=LABEL, Content_Type="text/plain")[0] == 415
    assert ask(page, body="number=0&label=refusal", Content_Type="application/x-www-form-urlencoded")[0] == 415
    assert ask(page, "/label", LABEL)[0] == 404
    assert ask(page, f"/{'x' * 43}/label", LABEL)[0] == 404
    assert ask(page, f"/{'x' * 43}/item", method="GET")[0] == 404
    assert ask(page, "/", method="GET")[0] == 404
    assert ask(page, method="PUT", body=LABEL)[0] == 501
    assert given(saved) == []
    status, headers, _ = ask(page, body=LABEL)
    assert status == 200
    assert given(saved) == ["refusal"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body",
    [
        "{", "[]", "1", '{"number": 0}', '{"number": "0", "label": "refusal"}', '{"number": true, "label": null}',
        '{"number": 99, "label": null}', '{"number": -1, "label": null}', '{"number": 0, "label": "maybe"}',
        '{"number": 0, "label": 1}', "[" * 60000,
    ],
)  # fmt: skip
def test_a_body_that_is_no_label_is_refused(page: Page, saved: Path, body: str) -> None:
    assert ask(page, body=body)[0] == 400
    assert given(saved) == []
    assert ask(page, body=LABEL)[0] == 200, "the command still works"


def test_a_body_that_never_ends_is_refused(page: Page) -> None:
    assert ask(page, body="x", Content_Length="99999999999")[0] == 400
    assert ask(page, body="x", Content_Length="-1")[0] == 400


def test_what_is_no_request_prints_nothing(page: Page) -> None:
    address = urlsplit(page.address)
    host, _, port = address.netloc.partition(":")
    long = f"POST {address.path}label HTTP/1.1\r\nHost: {address.netloc}\r\nOrigin: http://{address.netloc}\r\n"
    long += f"Content-Type: application/json\r\nContent-Length: {'9' * 5000}\r\n\r\n"
    for request in (f"GET http://[/ HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n", long):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(request.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    for _ in range(3):  # who goes away early
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"GET {address.path}page.js HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
    assert ask(page, body=LABEL)[0] == 200
    assert "Traceback" not in page.end()[1]


def test_files_beside_the_page_are_not_served(page: Page) -> None:
    base = urlsplit(page.address).path
    for path in ("../server.py", "..%2fserver.py", "index.html", "item?number=77", "page.js/.."):
        assert ask(page, base + path, method="GET")[0] in (404, 400)
    assert ask(page, base + "item?number=zero", method="GET")[0] == 200
