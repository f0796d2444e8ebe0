"""Every command that a message of the package names exists, with the flags that the message gives it."""

import ast
import re
from pathlib import Path

import pytest
from support.commands import CLI, COMMANDS, options, resolve

import etl

PACKAGE = Path(etl.__file__).parent
_CALL = re.compile(r"nimble-etl((?: +(?:--)?[\w./:=-]+)+)")
FILLED = "FILLED"
OTHERS = {"--hours", "--name", "--query", "--ink", "--faint"}
"""Parameters of named queries, a flag of the AWS CLI, and variables of style sheets."""


def texts(tree):
    """Yield each text of a module, with a word in place of what is filled in, except docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _begins_with_text(node)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(value.value if isinstance(value, ast.Constant) else FILLED for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped | parts:
            yield node.value


def _begins_with_text(node):
    return bool(node.body) and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)


def remedies():
    """Yield (module, words) of each call that a message names: in backticks, after a colon, or after `run`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            quoted = re.findall(r"`(nimble-etl [^`]+)`", text)
            bare = re.findall(r"(?:: |\brun )(nimble-etl [^`]+)$", text)
            for found in (*quoted, *bare):
                yield path.relative_to(PACKAGE).as_posix(), found.split()[1:]


REMEDIES = sorted({(module, " ".join(words)) for module, words in remedies()})


def test_there_are_messages_that_name_commands():
    assert {words.split()[0] for _, words in REMEDIES} >= {
        "run",
        "replay",
        "verify",
        "catalog",
        "status",
        "vacuum",
        "forget",
    }
    assert len(REMEDIES) > 20


@pytest.mark.parametrize("words", sorted({words for _, words in REMEDIES}))
def test_command_that_a_message_names_is_there(words):
    resolve([word.strip("'\",.;") for word in words.split()])


def test_flag_that_a_message_names_is_there():
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            named |= dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", text), path.name)
    there = set().union(*map(options, COMMANDS.values()), options(CLI))
    assert len(named) > 20
    assert {flag: name for flag, name in named.items() if flag not in there | OTHERS} == {}


@pytest.mark.parametrize("words", ["mend", "replay --from 2026-11-20", "vacuum --at-once"])
def test_command_that_is_not_there_is_noticed(words):
    with pytest.raises(AssertionError, match="there is no"):
        resolve(words.split())
