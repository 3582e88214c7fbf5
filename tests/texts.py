"""The texts of the repository that a person reads: documents, and the strings and comments of Python files."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CHANGELOG.md", "targets/README.md", "calibration/README.md", "benchmarks/README.md", "edgetl/README.md")  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A piece of text and where it begins. kind: "document", "string", "docstring" or "comment". Values in an f-string are {}."""

    file: Path
    line: int
    text: str
    kind: str

    def place(self, position: int = 0) -> str:
        """file:line of a position in the text."""
        name = self.file.relative_to(REPOSITORY) if self.file.is_relative_to(REPOSITORY) else self.file
        return f"{name}:{self.line + self.text.count(chr(10), 0, position)}"


def documents() -> Iterator[Text]:
    """Every document that is in this checkout (a source distribution leaves some out)."""
    for name in DOCUMENTS:
        file = REPOSITORY / name
        if file.is_file():
            yield Text(file, 1, file.read_text(encoding="utf-8"), "document")


def python_texts(file: Path, source: str | None = None) -> Iterator[Text]:
    """Strings, docstrings and comments of a Python file. Neighbouring comment lines are one text."""
    source = file.read_text(encoding="utf-8") if source is None else source
    yield from _strings(file, ast.parse(source))
    yield from _comments(file, source)


def _strings(file: Path, tree: ast.Module) -> Iterator[Text]:
    docstrings, parts = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]
        elif isinstance(node, ast.JoinedStr):
            pieces = [piece.value if isinstance(piece, ast.Constant) else "{}" for piece in node.values]
            parts |= {id(inner) for piece in node.values for inner in (piece, *ast.iter_child_nodes(piece))}
            whole = "".join(map(str, pieces))
            yield Text(file, node.lineno, whole, "string")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield Text(file, node.lineno, node.value, "docstring" if id(node) in docstrings else "string")


def _comments(file: Path, source: str) -> Iterator[Text]:
    lines = iter(source.splitlines(keepends=True))
    block: list[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and block:
                yield Text(file, begun, "\n".join(block), "comment")
                block = []
            if not block:
                begun = token.start[0]
            block.append(token.string.lstrip("# "))
            last = token.start[0]
    if block:
        yield Text(file, begun, "\n".join(block), "comment")


def texts(part: str) -> Iterator[Text]:
    """Every text of a part of the repository: a file, or a folder with Python files and page templates."""
    path = REPOSITORY / part
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.suffix == ".py":
            yield from python_texts(file)
        elif file.suffix in (".md", ".j2", ".toml") or file.name == "Makefile":
            yield Text(file, 1, file.read_text(encoding="utf-8"), "document")


def parts() -> list[str]:
    """Documents, and one part per room of the package."""
    rooms = sorted(path.name for path in (REPOSITORY / "edgetl").iterdir() if path.is_dir())
    rooms = [f"edgetl/{name}" for name in rooms if name not in ("__pycache__", "_data", "commands")]
    commands = sorted(path for path in (REPOSITORY / "edgetl/commands").iterdir() if path.name != "__pycache__")
    listed = [str(document.file.relative_to(REPOSITORY)) for document in documents()]
    listed += [name for name in ("Makefile", "targets", "calibration", "benchmarks") if (REPOSITORY / name).exists()]
    listed += ["edgetl/__init__.py", *rooms, *(str(path.relative_to(REPOSITORY)) for path in commands)]
    return list(dict.fromkeys(listed))
