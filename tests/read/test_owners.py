"""Names of owners from a CSV file: what is read, and which mistakes are sentences with a line."""

import pytest

from etl.errors import ConfigError
from etl.read.owners import read_names


def test_names_are_read_by_owner_and_equal_names_are_told_apart(tmp_path):
    path = tmp_path / "owners.csv"
    path.write_text('\ufeffname,owned_by,team\nAnn, u1 ,fx\n"Lee, Bo",u2,\nAnn,u3,fx\n', encoding="utf-8")
    assert read_names(path) == {"u1": "Ann (u1)", "u2": "Lee, Bo", "u3": "Ann (u3)"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", r", line 1: lacks the column owned_by; expected CSV with a header and the columns owned_by, name"),
        (b"owned_by\nu1\n", r", line 1: lacks the column name; expected"),
        (b"owned_by,name\nu1,Ann\n\nu2\n", r", line 4: name is empty; expected"),
        (b"owned_by,name\n,Ann\n", r", line 2: owned_by is empty; expected"),
        (b"owned_by,name\nu1,Ann\nu1,Ben\n", r", line 3: u1 is there twice, first in line 2; keep one"),
        (b'owned_by,name\nu1,"Ann\n', r", line 2: .*; expected CSV"),
        (b"owned_by,name\nu1,\xff\n", r": is not UTF-8 text \(byte 17\); save it as UTF-8"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_line(tmp_path, text, says):
    path = tmp_path / "owners.csv"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=rf"report\.names: .*owners\.csv{says}"):
        read_names(path)


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: there is no such file; correct report.names, or remove it"):
        read_names(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"report\.names: .*: Is a directory; expected CSV"):
        read_names(tmp_path)
