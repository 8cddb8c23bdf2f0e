"""Measure how dense Python code is, so that two states of the package, or two packages, can be compared.

    python tools/density.py pytest_trustllm
    python tools/density.py pytest_trustllm .venv/lib/python3.11/site-packages/httpx --rooms

A code line is a line that holds more than a comment or a docstring. Nodes are those of the syntax tree, without
docstrings and type annotations. The figures are an aim, not a limit: a table of cases is dense and easy to read, and a
long function of short lines may be neither.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = """\
| | code lines | nodes/line | ternaries | comprehensions | string keys | comments/100 | median function |
|---|--:|--:|--:|--:|--:|--:|--:|"""
_CONTEXTS = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)


@dataclass
class Counts:
    """What was counted in some files.

    Attributes:
        lines: Lines of code.
        comments: Comments.
        nodes: Nodes of the syntax trees.
        ternaries: Conditional expressions.
        comprehensions: Comprehensions and generator expressions.
        string_keys: Subscripts by a constant string, and calls of ``get`` with one.
        functions: Lines of each function.
    """

    lines: int = 0
    comments: int = 0
    nodes: int = 0
    ternaries: int = 0
    comprehensions: int = 0
    string_keys: int = 0
    functions: list[int] = field(default_factory=list)

    def add(self, source: str) -> None:
        """Count one file."""
        tree = ast.parse(source)
        prose = set(_prose(tree))
        self._count_lines(source, prose)
        for node in _nodes(tree, prose):
            self.nodes += 1
            if isinstance(node, ast.IfExp):
                self.ternaries += 1
            elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                self.comprehensions += 1
            elif _is_string_key(node):
                self.string_keys += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.append((node.end_lineno or node.lineno) - node.lineno + 1)

    def _count_lines(self, source: str, prose: set[ast.expr]) -> None:
        in_docstrings = {n for e in prose for n in range(e.lineno, (e.end_lineno or e.lineno) + 1)}
        holding_code = set()
        silent = (
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
            tokenize.ENCODING,
        )
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                self.comments += 1
            elif token.type not in silent:
                holding_code.update(range(token.start[0], token.end[0] + 1))
        self.lines += len(holding_code - in_docstrings)

    def row(self, name: str) -> str:
        """Return a line of the table."""
        thousand = 1000 / max(1, self.lines)
        median = statistics.median(self.functions) if self.functions else 0
        return (
            f"| {name} | {self.lines:,} | {self.nodes / max(1, self.lines):.1f} | {self.ternaries * thousand:.0f} "
            f"| {self.comprehensions * thousand:.0f} | {self.string_keys * thousand:.0f} "
            f"| {self.comments * thousand / 10:.1f} | {median:g} |"
        )


def _prose(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the docstrings, those behind constants included."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():  # of a lambda it is one expression
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.value


def _nodes(node: ast.AST, prose: set[ast.expr]) -> Iterator[ast.AST]:
    """Yield all nodes that do something."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and child not in prose and not isinstance(child, _CONTEXTS):
                yield child
                yield from _nodes(child, prose)


def _is_string_key(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    if not (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args
    ):
        return False
    return isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)


def measured(files: list[Path]) -> Counts:
    """Return the counts of some files."""
    counts = Counts()
    for file in files:
        counts.add(file.read_text(encoding="utf-8"))
    return counts


def main() -> None:
    """Print a table; ternaries, comprehensions and string keys are per 1,000 code lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", nargs="+", type=Path)
    parser.add_argument("--rooms", action="store_true", help="a row for each folder too")
    args = parser.parse_args()
    print(_HEAD)
    for package in args.packages:
        files = sorted(package.rglob("*.py"))
        print(measured(files).row(package.name))
        if args.rooms:
            for room in sorted({f.parent for f in files}):
                print(measured([f for f in files if f.parent == room]).row(room.relative_to(package.parent).as_posix()))


if __name__ == "__main__":
    main()
