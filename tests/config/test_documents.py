"""A mistake in a YAML file is one line with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_trustllm.config.documents import Place, lines_of, read_document
from pytest_trustllm.errors import SuiteError


def document(tmp_path: Path, content: str | bytes) -> Place:
    path = tmp_path / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path, "suites/x.yaml", SuiteError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "suites/x.yaml: expected a mapping, found None"),
        ("# only a comment\n", "suites/x.yaml: expected a mapping, found None"),
        ("- a\n- b\n", "suites/x.yaml: expected a mapping, found ['a', 'b']"),
        ("text", "suites/x.yaml: expected a mapping, found 'text'"),
        ("a: [1\nb: 2\n", "suites/x.yaml:2:2: broken YAML: "),
        ("a: 'open\n", "suites/x.yaml:2:1: broken YAML: "),
        ("a: 1\na: 2\n", "suites/x.yaml:2:1: broken YAML: key 'a' is given twice"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "suites/x.yaml:4:3: broken YAML: key 'b' is given twice"),
        ("? [a, b]\n: 1\n", "suites/x.yaml:1:3: broken YAML: a key must be plain text"),
        ("a: *nobody\n", "suites/x.yaml:1:4: broken YAML: found undefined alias"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "suites/x.yaml:1:4: broken YAML: !!python/object/apply:os.system is not",
        ),
        ("a: 1\n---\nb: 2\n", "suites/x.yaml:2:1: broken YAML: "),
        ("a: \x00\n", "suites/x.yaml: broken YAML: "),
        ("a: \x1b[31m\n", "suites/x.yaml: broken YAML: "),
        ("a: " + "[" * 5000, "suites/x.yaml"),
        (b"a: \xe9\n", "suites/x.yaml: is not UTF-8 text (byte 3)"),
        (b"\xff\xfea\x00:\x00", "suites/x.yaml: is not UTF-8 text (byte 0)"),
        ("1: a\n", "suites/x.yaml: key 1 is not text; put it in quotes"),
        ("yes: a\n", "suites/x.yaml: key True is not text; put it in quotes"),
        ("null: a\n", "suites/x.yaml: key None is not text; put it in quotes"),
    ],
)
def test_what_is_no_mapping(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as e:
        document(tmp_path, content)
    assert str(e.value).startswith(message)
    assert str(e.value).isprintable()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"^x: cannot be read: No such file or directory$"):
        read_document(tmp_path / "none.yaml", "x", SuiteError)
    with pytest.raises(SuiteError, match=r"^x: cannot be read: Is a directory$"):
        read_document(tmp_path, "x", SuiteError)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    assert document(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n").value == {"a": 1, "b": 2}


def test_every_value_has_a_line(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    text = "# why\na: 1\nb:\n  - {c: 2}\n  - c: &d\n      - 3\ne: *d\nf: [&g {}, *g]\n"
    file.write_text(text, encoding="utf-8")
    assert read_document(file, "d.yaml", SuiteError)["b"].list()[1].path == "b[1]"
    found = lines_of(file)
    assert found["a"] == 2
    assert (found["b[0]"], found["b[0].c"], found["b[1]"], found["b[1].c[0]"]) == (4, 4, 5, 6)
    assert "e" not in found


def test_aliases_are_read_without_copies(tmp_path: Path) -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 5))
    value = document(tmp_path, "l0: &l0 [x, x]\n" + levels).value
    assert value["l4"][0] is value["l4"][8] is value["l3"]


VALUES: dict[str, tuple[str, Callable[[Place], Any], Any]] = {
    # name: (YAML, how it is read, the value, or the message as text that begins with a colon)
    "text": ("k: hello", Place.text, "hello"),
    "text of a number": ("k: 5", Place.text, ": k: expected text, found 5"),
    "text of nothing": ("k: ' '", Place.text, ": k: expected text, found nothing"),
    "text of null": ("k:", Place.text, ": k: expected text, found None"),
    "name": ("k: a_b-9", Place.name, "a_b-9"),
    "name with a space": ("k: a b", Place.name, ": k: 'a b' is not a name; use letters, digits, '_' and '-'"),
    "name with a bracket": ("k: 'a[0]'", Place.name, ": k: 'a[0]' is not a name; use letters, digits, '_' and '-'"),
    "name with a slash": ("k: ../a", Place.name, ": k: '../a' is not a name; use letters, digits, '_' and '-'"),
    "name in another script": ("k: n\u00e4me", Place.name, ": k: 'n\u00e4me' is not a name; use letters, digits, *"),
    "texts of a line end": ('k: ["\\n", x]', lambda p: p.texts(blank=True), ("\n", "x")),
    "empty text where blanks are meant": ("k: ''", lambda p: p.texts(blank=True), ": k: expected text, found nothing"),
    "texts": ("k: [a, b]", Place.texts, ("a", "b")),
    "texts of one": ("k: a", Place.texts, ("a",)),
    "texts with a hole": ("k: [a, 5]", Place.texts, ": k[1]: expected text, found 5"),
    "texts of a mapping": ("k: {a: b}", Place.texts, ": k: expected a list, found {'a': 'b'}"),
    "integer": ("k: 5", lambda p: p.integer(1), 5),
    "integer too low": ("k: 0", lambda p: p.integer(1), ": k: 0 is outside [1, 2147483648]"),
    "integer of true": ("k: true", lambda p: p.integer(0), ": k: expected a whole number, found True"),
    "integer of a text": ("k: '5'", lambda p: p.integer(0), ": k: expected a whole number, found '5'"),
    "integer of a float": ("k: 5.0", lambda p: p.integer(0), ": k: expected a whole number, found 5.0"),
    "number": ("k: 1", lambda p: p.number(0, 1), 1.0),
    "number as a percent": ("k: 92", lambda p: p.number(0, 1), ": k: 92 is outside [0, 1]; write 0.92"),
    "number above": ("k: 1.0e+9", lambda p: p.number(0, 1), ": k: 1e+09 is outside [0, 1]"),
    "number of true": ("k: true", lambda p: p.number(0, 1), ": k: expected a number, found True"),
    "flag": ("k: true", Place.flag, True),
    "flag of a one": ("k: 1", Place.flag, ": k: expected true or false, found 1"),
    "flag of a text": ("k: 'true'", Place.flag, ": k: expected true or false, found 'true'"),
    "choice": ("k: b", lambda p: p.choice(("aa", "b")), "b"),
    "another choice": ("k: user_", lambda p: p.choice(("user", "x")),
                       ": k: 'user_' is not accepted (did you mean 'user'?); known: user, x"),
    "list of a text": ("k: a", Place.list, ": k: expected a list, found 'a'"),
    "long values are cut": ("k: [" + "a, " * 200 + "]", Place.flag, ": k: expected true or false, found ['a', *\u2026"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str, tmp_path: Path) -> None:
    content, read, wanted = VALUES[name]
    place = document(tmp_path, content)["k"]
    if not isinstance(wanted, str) or not wanted.startswith(":"):
        assert read(place) == wanted
        return
    with pytest.raises(SuiteError) as e:
        read(place)
    head, star, tail = f"suites/x.yaml{wanted}".partition("*")
    assert str(e.value).startswith(head)
    assert str(e.value).endswith(tail)
    assert star or str(e.value) == head


def test_places_lead_to_the_value(tmp_path: Path) -> None:
    top = document(tmp_path, "tasks:\n- {name: a}\n- {name: b, data: {where: {x: 1}}}\n")
    second = top["tasks"].list()[1]
    assert second["data"]["where"]["x"].path == "tasks[1].data.where.x"
    assert second.get("title") is None
    assert [(key, place.path) for key, place in second["data"].items()] == [("where", "tasks[1].data.where")]
    with pytest.raises(SuiteError, match=r"^suites/x\.yaml: tasks\[1\]: key 'title' is missing$"):
        second["title"]
    with pytest.raises(SuiteError, match=r"^suites/x\.yaml: tasks\[1\]: unknown key 'data' \(did you mean 'date'\?\)"):
        second.mapping(("name", "date"))
