"""What the messages of the package say, read out of its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import etl

PACKAGE = Path(etl.__file__).parent


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield each text of a module, with a word in place of what is filled in, except docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _begins_with_text(node)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(value.value if isinstance(value, ast.Constant) else "FILLED" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped | parts:
            yield node.value


def _begins_with_text(node: ast.AST) -> bool:
    return bool(node.body) and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def commands_in(text: str) -> list[str]:
    """Return the calls that a message names: in backticks, after a colon, or after `run`."""
    return re.findall(r"`(nimble-etl [^`]+)`", text) + re.findall(r"(?:: |\brun )(nimble-etl [^`]+)$", text)


def messages() -> Iterator[tuple[str, str]]:
    """Yield (module, text) of each text of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(PACKAGE).as_posix(), text


def advising_texts() -> list[str]:
    """Return the texts that name a command."""
    return [text for _, text in messages() if commands_in(text)]
