"""The names of owners, which the report shows in place of their ids."""

import csv
from collections import Counter
from pathlib import Path

from etl.errors import ConfigError

_COLUMNS = ("owned_by", "name")


def read_names(path: Path) -> dict[str, str]:
    """Return owner -> name from a CSV file with the columns owned_by and name. Other columns are ignored.

    An owner's id stands behind a name that another owner has, too.

    Raises:
        ConfigError: the file is missing, lacks a column or a value, or has an owner twice. The message names the line.
    """
    where, expected = f"report.names: {path}", f"expected CSV with a header and the columns {', '.join(_COLUMNS)}"
    names: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, strict=True)
            if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
                raise ConfigError(f"{where}, line 1: lacks the column {missing[0]}; {expected}")
            for row in rows:
                owner, name = ((row[column] or "").strip() for column in _COLUMNS)
                if not owner or not name:
                    lacking = "name" if owner else "owned_by"
                    raise ConfigError(f"{where}, line {rows.line_num}: {lacking} is empty; {expected}")
                if owner in names:
                    raise ConfigError(
                        f"{where}, line {rows.line_num}: {owner} is there twice, first in line {lines[owner]}; keep one"
                    )
                names[owner], lines[owner] = name, rows.line_num
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no such file; correct report.names, or remove it") from None
    except OSError as exc:
        raise ConfigError(f"{where}: {exc.strerror}; {expected}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{where}: is not UTF-8 text (byte {exc.start}); save it as UTF-8") from exc
    except csv.Error as exc:
        raise ConfigError(f"{where}, line {rows.reader.line_num}: {exc}; {expected}") from exc
    several = Counter(names.values())
    return {owner: name if several[name] == 1 else f"{name} ({owner})" for owner, name in names.items()}
