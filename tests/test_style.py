"""Style of prose: docstrings begin with a noun or a verb, and names and docstrings use the field's words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "maeseg"
PARTS = sorted(path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())

OPENING = re.compile(r"(What|Whether|Which|How|Of|If|Where|When)\b")
PRIVATE_WORDS = re.compile(
    r"\b(luck|looks|pace|savings|said|told|whole|alike|whatever|whoever|knows? nothing|so much"
    r"|gives? back|picks? up)\b",
    re.IGNORECASE,
)
"""Words of this project alone, where the field has a term: checkpoint, sliding window, label efficiency, gather."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings of a module, its classes, functions and attributes, each with its line."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not body:
            continue
        previous: ast.AST = node
        for statement in body:
            text = statement.value if isinstance(statement, ast.Expr) else None
            documented = previous is node or isinstance(previous, ast.Assign | ast.AnnAssign)
            if documented and isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.lineno, text.value
            previous = statement


def names(tree: ast.Module, file: Path) -> Iterator[tuple[int, str]]:
    """Names of a module, its classes and functions, words apart, each with its line."""
    yield 1, file.stem.replace("_", " ")
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", node.name)


def faults(file: Path) -> list[str]:
    """Violations of the rules in a module, one line each."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    where = file.relative_to(PACKAGE)
    texts = list(docstrings(tree))
    return [f"{where}:{line}: begins with {text[:40]!r}" for line, text in texts if OPENING.match(text.strip())] + [
        f"{where}:{line}: {found[0]!r} in {text.strip()[:40]!r}"
        for line, text in [*texts, *names(tree, file)]
        if (found := PRIVATE_WORDS.search(text))
    ]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_prose_is_plain(part: Path) -> None:
    files = [part] if part.is_file() else sorted(part.rglob("*.py"))
    found = [line for file in files for line in faults(file)]
    assert not found, "\n".join(found)


def test_violations_are_found() -> None:
    tree = ast.parse(
        '"""Which one."""\nX = 1\n"""How many."""\n\n\nclass A:\n    """Rule."""\n\n    def told(self): ...\n'
    )
    assert [text for _, text in docstrings(tree) if OPENING.match(text)] == ["Which one.", "How many."]
    assert [text for _, text in names(tree, PACKAGE / "errors.py") if PRIVATE_WORDS.search(text)] == ["told"]
