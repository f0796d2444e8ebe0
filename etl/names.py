"""Names of columns, as they follow from the names of the API."""

import re

OWN_COLUMNS = frozenset({
    "snapshot_date", "account_id", "region", "run_id", "slice_id", "page_number", "extracted_at", "extra", "change",
    "changed_columns", "old_values", "previous_date", "valid_from", "valid_to", "seen_until", "is_current", "next_date",
    "last_date",
})  # fmt: skip
"""Columns that every dataset's tables, its change log or the views on it have besides those of the API."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Matches where a new word begins in a name: DBInstanceId has the words DB, Instance and Id."""


def snake_case(name: str) -> str:
    """Return the column name for a parameter or member: DBInstanceId becomes db_instance_id."""
    return _WORDS.sub("_", name).lower()


def parameter_column(name: str) -> str:
    """Return the column that holds a parameter of the slice: AccountId becomes parameter_account_id, FarmId farm_id."""
    column = snake_case(name)
    return f"parameter_{column}" if column in OWN_COLUMNS else column


def tag_column(tag: str) -> str:
    """Return the column name of a pinned tag: Artist level becomes tag_artist_level."""
    return "tag_" + re.sub(r"\W+", "_", tag).strip("_").lower()
