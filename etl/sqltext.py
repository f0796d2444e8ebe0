"""Quotes names and texts for SQL. Values from outside are never quoted; they are bound as parameters."""


def quoted(identifier: str) -> str:
    """Return an identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text in single quotes."""
    return "'" + text.replace("'", "''") + "'"
