"""YAML that is a trap: one line says where, within seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from user_project import Project

from pytest_trustllm.config.documents import lines_of, read_document
from pytest_trustllm.errors import SuiteError


def bomb(depth: int = 9, width: int = 9) -> str:
    """Return one flow node: lists of aliases of lists of aliases."""
    text = f"&b0 [{', '.join(['lol'] * width)}]"
    for level in range(1, depth):
        text = f"&b{level} [{text}, {', '.join([f'*b{level - 1}'] * (width - 1))}]"
    return text


def mapping_bomb(depth: int = 14) -> str:
    lines = ["m0: &m0 {a: 1, b: 2}"]
    for level in range(1, depth):
        below = f"*m{level - 1}"
        lines.append(f"m{level}: &m{level} {{a: {below}, b: {below}, c: {below}, d: {below}}}")
    return "\n".join(lines) + "\n"


TEXTS: dict[str, tuple[str, str]] = {
    "an alias bomb": (f"a: {bomb()}\n", "x:1:1: broken YAML: more than 1,000,000 values, with aliases written out"),
    "an alias bomb as a key": (f"? {bomb()}\n: x\n", "more than 1,000,000 values"),
    "a mapping bomb": (mapping_bomb(), "more than 1,000,000 values"),
    "a list that contains itself": ("a: &a [*a]\n", "x:1:4: broken YAML: a value that contains itself"),
    "a mapping that contains itself": ("a: &a {b: *a}\n", "a value that contains itself"),
    "1,000 levels": ("a: " + "[" * 1000 + "]" * 1000 + "\n", "exceeded maximum nesting depth"),
    "100 levels": ("a: " + "[" * 100 + "]" * 100 + "\n", "nested more than 64 levels deep"),
    "20,000 levels": ("a: " + "[" * 20_000 + "]" * 20_000 + "\n", "broken YAML: "),
    "a number of 10,000 digits": (
        "a: " + "9" * 10_000 + "\n",
        "x:1:4: broken YAML: a whole number that is not written",
    ),
    "a sexagesimal number": ("a: " + "59:" * 5000 + "59\n", "a whole number that is not written in at most 19 decimal"),
    "a sexagesimal fraction": ("a: 190:20:30.15\n", "190:20:30.15 is not a number that is accepted"),
    "a binary number": ("a: 0b" + "1" * 100_000 + "\n", "a whole number that is not written in at most 19 decimal"),
    "infinity": ("a: [1, -.INF]\n", "x:1:8: broken YAML: -.INF is not a number that is accepted"),
    "no number": ("a: .nan\n", ".nan is not a number that is accepted"),
    "a set": ("a: !!set {b, c}\n", "!!set is not accepted; write plain data"),
    "an ordered mapping": ("a: !!omap [b: 1]\n", "!!omap is not accepted"),
    "binary data": ("a: !!binary Zm9v\n", "!!binary is not accepted"),
    "code": ("a: !!python/object/apply:os.system ['true']\n", "!!python/object/apply:os.system is not accepted"),
    "a tag of nobody": ("a: !foo bar\n", "!foo is not accepted"),
    "an empty whole number": ("a: !!int\n", "x:1:4: broken YAML: '' is no int"),
    "an empty number": ("a: !!float ''\n", "x:1:4: broken YAML: '' is no float"),
    "a number of words": ("a: !!int ten\n", "'ten' is no int"),
    "neither true nor false": ("a: !!bool maybe\n", "'maybe' is no bool"),
    "9 MiB": ("# x\n" * (9 * 2**18), "x: is longer than 8 MiB"),
    "several documents": ("a: 1\n---\na: 2\n", "broken YAML: "),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_trap_is_one_line(tmp_path: Path, name: str) -> None:
    text, problem = TEXTS[name]
    path = tmp_path / "x"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(SuiteError) as e:
        read_document(path, "x", SuiteError)
    assert time.process_time() - start < 5
    assert problem in str(e.value)
    assert len(str(e.value)) < 500
    assert str(e.value).isprintable()


def test_what_is_plain_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(
        "a: 2024-05-06\nb: &b [1, -2.5, 1e3, true, null, 010]\nc: [*b, *b]\nd: 2024-99-99\n"
        "e: [!!int '1', !!float 2, !!bool yes, !!str 3]\n"
    )
    value = read_document(path, "x", SuiteError).value
    assert value["a"] == "2024-05-06"
    assert value["c"] == [value["b"], value["b"]]
    assert value["d"] == "2024-99-99"
    assert value["e"] == [1, 2.0, True, "3"]
    assert lines_of(path)["b[1]"] == 2


def test_a_pipe_is_no_suite(tmp_path: Path) -> None:
    path = tmp_path / "x"
    os.mkfifo(path)
    with pytest.raises(SuiteError, match=r"^x: cannot be read: not a regular file$"):
        read_document(path, "x", SuiteError)


@pytest.mark.parametrize("directory", ["suites", "thresholds"])
@pytest.mark.parametrize("name", ["x\x1b[31m.yaml", "x\u202ey.yaml", "x\ny.yaml"])
def test_a_name_that_a_terminal_obeys_is_refused(project: Project, directory: str, name: str) -> None:
    project.gates("metric: echo.accuracy, at_least: 0.5")
    (file,) = (project.path / directory).glob("*.yaml")
    file.rename(file.with_name(name))
    result = project.run("-v")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout.str() + result.stderr.str()
    assert "the name of the file has characters that cannot be printed; rename it" in printed
    assert not any(sign in printed for sign in "\x1b\u202e")
