"""Every command that a message of the package names exists, with the flags that the message gives it."""

import re

import pytest
from support.commands import CLI, COMMANDS, options, resolve
from support.remedies import commands_in, messages

OTHERS = {"--hours", "--name", "--query", "--ink", "--faint"}
"""Parameters of named queries, a flag of the AWS CLI, and variables of style sheets."""


def remedies():
    """Yield (module, words) of each call that a message names."""
    for module, text in messages():
        for found in commands_in(text):
            yield module, found.split()[1:]


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
    for module, text in messages():
        named |= dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", text), module)
    there = set().union(*map(options, COMMANDS.values()), options(CLI))
    assert len(named) > 20
    assert {flag: name for flag, name in named.items() if flag not in there | OTHERS} == {}


@pytest.mark.parametrize("words", ["mend", "replay --from 2026-11-20", "vacuum --at-once"])
def test_command_that_is_not_there_is_noticed(words):
    with pytest.raises(AssertionError, match="there is no"):
        resolve(words.split())
