"""The commands and flags that there are, asked of the command line itself."""

from typer.main import get_command

from etl.cli.app import app
from etl.sqlfiles import sql_files

CLI = get_command(app)


def leaves(command=CLI, path=()):
    """Yield (words, command) of everything that can be run: a group too, if it does something by itself."""
    if not hasattr(command, "commands") or command.invoke_without_command:
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))


COMMANDS = dict(leaves())


def options(command):
    """Return the flags that a command takes."""
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")} | {"--help"}


def resolve(words):
    """Return the path of the command that words after `nimble-etl` call.

    Raises:
        AssertionError: there is no such command, or it has no such flag.
    """
    path, command, rest = (), CLI, list(words)
    while rest and hasattr(command, "commands"):
        word = rest.pop(0)
        if word in options(command):
            rest = rest[1:]  # its value
        else:
            if word not in command.commands and path in COMMANDS:
                rest.insert(0, word)
                break
            assert word in command.commands, f"nimble-etl {' '.join(words)}: there is no command {word!r}"
            path, command = (*path, word), command.commands[word]
    known = options(command)
    if path == ("query",) and rest and not rest[0].startswith("--"):
        parameters = sql_files("queries")[rest[0]].parameters
        known |= {f"--{parameter.name.replace('_', '-')}" for parameter in parameters}
    flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert flags <= known, f"nimble-etl {' '.join(words)}: there is no flag {', '.join(flags - known)}"
    return path
