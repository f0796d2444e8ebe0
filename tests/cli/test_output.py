"""Results for people and for programs: every value is in the output, and what is in a value stays in its place."""

import csv
import datetime as dt
import decimal
import importlib.metadata
import io
import json
import logging
import math
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from etl.cli import output as render
from etl.cli import process
from etl.cli.app import app
from etl.cli.fitting import choose
from etl.cli.output import Facts, Format, Output, Reader, console, write_json, write_rows, write_table
from etl.errors import ConfigError

AT = dt.datetime(2026, 11, 20, 2, 0, 0, 500000, tzinfo=dt.UTC)
EVERY_TYPE = pa.table(
    {
        "text": ["é | \U0001f3ac", None],
        "whole": [3, None],
        "real": [1.5, None],
        "exact": [decimal.Decimal("1.10"), None],
        "flag": [True, None],
        "date": [dt.date(2026, 11, 20), None],
        "at": pa.array([AT, None], pa.timestamp("us", tz="UTC")),
        "time": [dt.time(2, 3), None],
        "content": [b"\x00\xff", None],
        "tags": pa.array([[("k", "é"), ("K", None)], None], pa.map_(pa.string(), pa.string())),
        "list": [[1, None], None],
        "part": [{"at": AT, "n": 1}, None],
    }
)
AS_TEXT = [
    "é | \U0001f3ac", "3", "1.5", "1.10", "true", "2026-11-20", "2026-11-20 02:00:00.500000+00:00", "02:03:00", "00ff",
    '[["k", "é"], ["K", null]]', "[1, null]", '{"at": "2026-11-20T02:00:00.500000+00:00", "n": 1}',
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(st.tuples(TEXT | st.none(), st.integers(-(2**63), 2**63 - 1) | st.none()), max_size=4)


def table_of(rows):
    columns = list(zip(*rows, strict=True)) or [(), ()]
    return pa.table({"a": pa.array(columns[0], pa.string()), "b": pa.array(columns[1], pa.int64())})


def written(table, form, reader=None):
    """Return what goes to standard output."""
    with pytest.MonkeyPatch.context() as patch:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
        patch.setattr(sys, "stdout", stream)
        write_table(table, form, reader)
        stream.flush()
        return stream.buffer.getvalue()


# Every value


def test_csv_has_every_type_as_text_and_null_as_nothing():
    header, first, second = csv.reader(io.StringIO(written(EVERY_TYPE, Format.CSV).decode()))
    assert header == EVERY_TYPE.column_names
    assert first == AS_TEXT
    assert second == [""] * len(header)


def test_json_has_every_type_and_one_object_per_line():
    first, second = (json.loads(line) for line in written(EVERY_TYPE, Format.JSON).decode().splitlines())
    assert first == {
        "text": "é | \U0001f3ac", "whole": 3, "real": 1.5, "exact": "1.10", "flag": True, "date": "2026-11-20",
        "at": "2026-11-20T02:00:00.500000+00:00", "time": "02:03:00", "content": "00ff",
        "tags": [["k", "é"], ["K", None]], "list": [1, None],
        "part": {"at": "2026-11-20T02:00:00.500000+00:00", "n": 1},
    }  # fmt: skip
    assert second == dict.fromkeys(EVERY_TYPE.column_names)


def test_table_has_every_type_as_text_on_one_line_however_long():
    wide = EVERY_TYPE.append_column("last", pa.array(["x" * 500, None]))
    header, first, second = written(wide, Format.TABLE).decode().splitlines()
    assert header.split() == wide.column_names
    place = 0
    for text in (*AS_TEXT, "x" * 500):
        assert text in first[place:]
        place = first.index(text, place) + len(text)
    assert second.strip() == ""


def test_markdown_has_every_type_and_as_many_cells_in_each_row():
    lines = written(EVERY_TYPE, Format.MARKDOWN).decode().splitlines()
    assert lines[0] == "| " + " | ".join(EVERY_TYPE.column_names) + " |"
    assert lines[1] == "|" + " --- |" * EVERY_TYPE.num_columns
    assert lines[2] == "| " + " | ".join(text.replace("|", "\\|") for text in AS_TEXT) + " |"
    assert len(lines) == 4


def test_parquet_is_the_table():
    assert pq.read_table(io.BytesIO(written(EVERY_TYPE, Format.PARQUET))).to_pylist() == EVERY_TYPE.to_pylist()


@pytest.mark.parametrize("form", Format)
def test_answer_without_rows_still_has_its_columns(form):
    empty = EVERY_TYPE.slice(0, 0)
    found = written(empty, form)
    if form in (Format.JSON, Format.LINE):
        assert found == b""
    elif form is Format.PARQUET:
        assert pq.read_table(io.BytesIO(found)).schema.types == empty.schema.types
    else:
        assert all(name in found.decode() for name in empty.column_names)


# Laws


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_fault_53_csv_read_back_has_the_values_whatever_they_hold(rows):
    _, *found = csv.reader(io.StringIO(written(table_of(rows), Format.CSV).decode(), newline=""))
    assert found == [["" if value is None else str(value) for value in row] for row in rows]


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_fault_53_json_read_back_is_the_rows_one_on_each_line(rows):
    lines = written(table_of(rows), Format.JSON).decode().removesuffix("\n").split("\n") if rows else []
    assert [json.loads(line) for line in lines] == [{"a": a, "b": b} for a, b in rows]


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_fault_53_markdown_has_a_line_for_each_row_and_as_many_cells_as_columns(rows):
    lines = written(table_of(rows), Format.MARKDOWN).decode().removesuffix("\n").split("\n")
    assert len(lines) == 2 + len(rows)
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)


# Hostile values


def test_fault_53_control_characters_in_a_value_do_not_reach_the_terminal():
    """A tag that holds an escape sequence would otherwise clear the screen, or say what was never there."""
    hostile = ["\x1b[2J\x1b]0;owned\x07", "\x9b31m", "a\rb", "\x00\x08\x7f"]
    found = written(pa.table({"tag": hostile}), Format.TABLE).decode()
    assert not any(ord(character) < 32 and character != "\n" for character in found)
    assert not any(127 <= ord(character) < 160 for character in found)
    assert [line.rstrip() for line in found.split("\n")[1:5]] == [
        r"\x1b[2J\x1b]0;owned\x07",
        r"\x9b31m",
        r"a\rb",
        r"\x00\x08\x7f",
    ]


def test_fault_53_markup_of_the_terminal_library_is_text():
    found = written(pa.table({"tag": ["[bold red]x[/]", ":boom:", "[/nonsense]"]}), Format.TABLE).decode()
    assert [line.rstrip() for line in found.split("\n")[1:4]] == ["[bold red]x[/]", ":boom:", "[/nonsense]"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_has_null_for_what_is_no_number_there(value, capsys):
    """`NaN` is no JSON: jq and others refuse the whole line."""
    write_json({"x": value, "y": [value, 1.5], "z": {"deep": (value,)}})
    write_table(pa.table({"x": [value], "list": [[value]]}), Format.JSON)
    lines = capsys.readouterr().out.splitlines()

    def refuse(constant):
        raise AssertionError(constant)

    found = [json.loads(line, parse_constant=refuse) for line in lines]
    assert found == [{"x": None, "y": [None, 1.5], "z": {"deep": [None]}}, {"x": None, "list": [None]}]


def test_json_of_facts_that_are_no_table(capsys):
    write_json({"at": AT, "exact": decimal.Decimal("1.10"), "none": None, "several": (1, "é")})
    expected = '{"at": "2026-11-20T02:00:00.500000+00:00", "exact": "1.10", "none": null, "several": [1, "é"]}\n'
    assert capsys.readouterr().out == expected


def test_values_within_values_are_rendered_as_those_of_their_own():
    """Maps of DuckDB have keys of any type: JSON has none for them, so a map is a list of pairs."""
    table = duckdb.sql(
        "select map {1: 'a', 2: null} as numbers, map {date '2026-11-20': 1.10::decimal(5, 2)} as dates,"
        r" [[1e16, 'nan'::double, '-inf'::double]] as reals, {'at': time '02:03', 'content': '\xff'::blob} as part,"
        " [uuid '00000000-0000-0000-0000-000000000001'] as ids, 18446744073709551615::ubigint as large"
    ).to_arrow_table()
    texts = [
        '[[1, "a"], [2, null]]', '[["2026-11-20", "1.10"]]', "[[1e+16, null, null]]",
        '{"at": "02:03:00", "content": "ff"}', '["00000000-0000-0000-0000-000000000001"]', "18446744073709551615",
    ]  # fmt: skip
    assert next(csv.reader(written(table, Format.CSV).decode().splitlines()[1:])) == texts
    named = (f'"{name}": {text}' for name, text in zip(table.column_names, texts, strict=True))
    assert written(table, Format.JSON).decode() == f"{{{', '.join(named)}}}\n"


def test_difference_of_instants_is_words():
    table = pa.table({"lag": pa.array([90_061_000_000], pa.duration("us"))})
    assert written(table, Format.JSON) == b'{"lag": "1 day, 1:01:01"}\n'
    assert written(table, Format.CSV) == b'lag\n"1 day, 1:01:01"\n'


def test_json_of_a_stream_that_has_no_such_character_has_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", newline="")
    monkeypatch.setattr(sys, "stdout", stream)
    write_json({"title": "é \U0001f3ac", "list": [math.nan]})
    stream.flush()
    assert stream.buffer.getvalue() == rb'{"title": "\u00e9 \ud83c\udfac", "list": [null]}' + b"\n"


def test_lines_of_csv_end_as_other_lines_do_and_line_ends_in_values_are_quoted():
    found = written(pa.table({"a": ["x", "\r", "y\r\n", "\n", None], "b": ["1", "2", "\r\n", "", None]}), Format.CSV)
    assert found == b'a,b\nx,1\n"\r",2\n"y\r\n","\r\n"\n"\n",\n,\n'


# The shape of a table


def test_rows_are_aligned_numbers_to_the_right_and_a_missing_value_is_nothing(capsys):
    write_rows([{"name": "a", "n": 1}, {"name": "long name", "n": 1000}, {"name": None}], ("name", "n"), "Title")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "Title",
        "name          n",
        "a             1",
        "long name  1000",
        "",
    ]


def test_columns_are_those_that_were_asked_for_in_their_order(capsys):
    write_rows([{"a": 1, "b": 2, "c": 3}], ("c", "a"))
    assert capsys.readouterr().out.split() == ["c", "a", "3", "1"]


def test_terminal_folds_and_loses_nothing(monkeypatch):
    """A terminal is as wide as it is; a value is folded then, never cut."""
    stream = io.StringIO()
    narrow = Console(file=stream, width=20, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(render, "console", lambda: narrow)
    write_rows([{"a": "0123456789" * 5}], ("a",))
    assert "".join(stream.getvalue().split()) == "a" + "0123456789" * 5


def shown_on(width, table, monkeypatch):
    """Return what a terminal of such a width shows of an answer."""
    stream = io.StringIO()
    terminal = Console(file=stream, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(render, "console", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    write_table(table, Format.TABLE)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_terminal_shows_what_fits_and_says_what_does_not(monkeypatch):
    """Of 8,000 rows with 40 columns, rich would measure every cell, and make each column a letter wide."""
    table = pa.table({f"column_{place}": [f"{place} whole words"] * 8000 for place in range(40)})
    header, first, *others, columns, rows = shown_on(80, table, monkeypatch)
    assert header.split() == ["column_0", "column_1", "column_2", "…", "column_38", "column_39"]
    assert first.split("  ") == [
        "0 whole words", "1 whole words", "2 whole words", "…", "38 whole words", "39 whole words",
    ]  # fmt: skip
    assert len(others) == 39
    assert columns == "5 of 40 columns fit this terminal; a pipe, a file or --json gets all"
    assert rows == "40 of 8,000 rows; a pipe, a file or --format line gets all"


@pytest.mark.parametrize(
    ("widths", "room", "expected"),
    [
        ([5, 5, 5], 19, (3, 0)),
        ([5, 5, 5], 18, (1, 1)),
        ([50, 50], 20, (2, 0)),
        ([50, 5, 50], 20, (1, 1)),
        ([5, 5, 5, 5], 22, (2, 1)),
        ([5, 5, 5, 5, 5], 31, (2, 2)),
        ([5, 5, 5, 5, 5], 33, (5, 0)),
    ],
)
def test_columns_are_left_out_in_the_middle(widths, room, expected):
    assert choose(widths, room) == expected


NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def rows_on(width, rows, monkeypatch):
    stream = io.StringIO()
    terminal = Console(file=stream, width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(render, "console", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    Output(as_json=False).show(Facts("facts", rows))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_what_a_command_says_is_folded_between_words_before_anything_is_left_out(monkeypatch):
    rows = [{"query": "idle_sessions", "question": "Which sessions run without having been updated?", "hours": 12}]
    assert rows_on(50, rows, monkeypatch) == [
        "query          question                      hours",
        "idle_sessions  Which sessions run without       12",
        "               having been updated?",
    ]


def test_a_column_that_is_the_same_in_all_rows_becomes_a_note_and_the_last_ones_are_left_out(monkeypatch):
    rows = [
        {"slice": f"slice-{number}", "account_id": "123456789012", "at": NOON, "rows": number, "note": "a" * 30}
        for number in (1, 2)
    ]
    at = NOON.isoformat(sep=" ")
    assert rows_on(70, rows, monkeypatch) == [
        "slice    at                         rows  note",
        f"slice-1  {at}     1  {'a' * 28}",
        f"{'':42}aa",
        f"slice-2  {at}     2  {'a' * 28}",
        f"{'':42}aa",
        "in all rows: account_id = 123456789012",
    ]
    rows[1] |= {"account_id": "210987654321", "at": NOON + dt.timedelta(1), "note": "b" * 30}
    assert rows_on(40, rows, monkeypatch) == [
        "slice    account_id    …",
        "slice-1  123456789012  …",
        "slice-2  210987654321  …",
        "2 of 5 columns fit this terminal; a pipe, a file or --json gets all",
    ]


def test_terminal_that_everything_fits_says_nothing_more(monkeypatch):
    assert shown_on(80, pa.table({"a": [1], "b": ["x"], "c": [None]}), monkeypatch) == ["a  b  c", "1  x"]


def test_lines_have_a_column_each_and_rows_are_apart():
    tags = pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string()))
    table = pa.table({"a": [1, None], "long name": ["x\ny", "z"], "tags": tags})
    assert written(table, Format.LINE).decode().splitlines() == [
        "        a = 1",
        r"long name = x\ny",
        '     tags = [["k", "v"]]',
        "",
        "        a =",
        "long name = z",
        "     tags =",
    ]


def test_parquet_does_not_go_to_a_terminal(monkeypatch):
    """It is binary: a terminal would obey what happens to be in it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(ConfigError, match=r"--format parquet: is binary, and this is a terminal; add `> answer"):
        app(["sql", "from etl_runs", "--format", "parquet"], standalone_mode=False)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", [[], ["sql"], ["config", "check"]])
def test_help_has_a_short_flag_everywhere(command, flag, capsys):
    app([*command, flag], standalone_mode=False)
    assert capsys.readouterr().out.startswith("Usage: ")


def test_version_is_that_of_the_package(capsys):
    app(["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"nimble-etl {importlib.metadata.version('nimble-etl')}\n"


def test_without_a_terminal_there_are_no_colours_and_lines_are_as_long_as_they_need_to_be(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert console().width == console(stderr=True).width == 10_000
    assert console(stderr=True).stderr
    assert not console().is_terminal


def test_what_parquet_has_no_type_for_is_a_sentence():
    table = duckdb.sql("select interval 1 day as lag").to_arrow_table()
    with pytest.raises(ConfigError, match=r"--format parquet: .*cast"):
        write_table(table, Format.PARQUET)


def test_sums_are_numbers_and_intervals_are_iso_8601():
    """DuckDB sums integers as HUGEINT, which Arrow has as a decimal without fractions."""
    with duckdb.connect() as connection:
        answer = connection.sql(
            "select sum(n) as total, interval 1 day as day, interval '14 months 2 hours 3.5 seconds' as long,"
            " interval 0 day as none, 1.10::decimal(9, 2) as exact, {'of': [map {'k': interval 2 day}]} as deep"
            " from (values (171500), (1)) as given (n)"
        ).to_arrow_table()

    assert json.loads(written(answer, Format.JSON)) == {
        "total": 171501, "day": "P1D", "long": "P14MT7203.5S", "none": "PT0S", "exact": "1.10",
        "deep": {"of": [[["k", "P2D"]]]},
    }  # fmt: skip
    assert written(answer, Format.CSV).decode().splitlines()[1].startswith("171501,P1D,P14MT7203.5S,PT0S,1.10,")


HOSTILE = "\x1b]0;owned\x07\u202egnp\n2026-11-28 ERROR forged line"


def test_fault_56_what_a_server_says_is_shown_and_not_obeyed(capsys):
    """Escape sequences, line breaks and turned text, wherever people read them."""
    rows = [{HOSTILE: HOSTILE}]
    render.Output(as_json=False).show(render.Facts("rows", rows), notes=[HOSTILE])
    render.write_markdown(rows, [HOSTILE])
    record = logging.LogRecord("etl", logging.WARNING, "", 0, "said: %s", (HOSTILE,), None)
    shown = capsys.readouterr().out + process._Lines("%(message)s").format(record)

    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b]0;owned" in shown
    assert not [line for line in shown.splitlines() if line.startswith("2026-11-28 ERROR")]


def test_dates_that_python_has_no_value_for_are_shown():
    """Beyond the year 9999 or before the year 1, infinite, or with nanoseconds; also within other values."""
    answer = duckdb.sql(
        "select date '10000-01-01' as far, timestamptz '20000-01-01 00:00:00+00' as instant, date 'infinity' as never,"
        " timestamp '-infinity' as ever, date '0044-03-15 (BC)' as ides,"
        " timestamp_ns '2026-01-01 00:00:00.123456789' as exact, [date '10000-01-01', null, date '2026-01-01'] as list,"
        " {'at': timestamp '10000-01-01', 'n': 1} as part, map {'k': timestamp '12000-01-01 00:00:01.5'} as map,"
        " date '2026-01-01' as near, null::date as nothing"
    ).to_arrow_table()

    found = json.loads(written(answer, Format.JSON))
    assert found["instant"].startswith(("20000-01-01T00:00:00", "19999-12-31T"))
    del found["instant"]
    assert found == {
        "far": "10000-01-01", "never": "infinity", "ever": "-infinity", "ides": "-0043-03-15",
        "exact": "2026-01-01T00:00:00.123456789",
        "list": ["10000-01-01", None, "2026-01-01"], "part": {"at": "10000-01-01T00:00:00", "n": 1},
        "map": [["k", "12000-01-01T00:00:01.500000"]], "near": "2026-01-01", "nothing": None,
    }  # fmt: skip
    _, row = csv.reader(written(answer, Format.CSV).decode().splitlines())
    assert row[0] == "10000-01-01"
    assert row[5] == "2026-01-01 00:00:00.123456789"


def test_fault_53_columns_are_shown_by_the_names_that_they_have():
    names = ["[/x]", "[bold]", ":boom:", "=1+1"]
    found = written(pa.table({name: [1] for name in names}), Format.TABLE).decode()
    assert found.splitlines()[0].split() == names


def test_fault_53_csv_for_excel_has_no_formula_and_its_numbers_are_numbers():
    """Source: OWASP, "CSV Injection"."""
    texts = [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(1)",
        "\tx",
        "\rx",
        "\n=1",
        "\uff1d1",
        "a=1",
        " =1",
        'say "é"',
        None,
    ]
    numbers = [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, None]
    table = pa.table({"=text": texts, "number": numbers, "exact": [decimal.Decimal("-1.50")] * 12, "real": [-0.5] * 12})

    content = written(table, Format.CSV, Reader.EXCEL)
    assert content.startswith(b'\xef\xbb\xbf"\'=text","number"')
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert header == ["'=text", "number", "exact", "real"]
    assert [row[0] for row in rows] == [*(f"'{text}" for text in texts[:8]), *texts[8:11], ""]
    assert [row[1:] for row in rows[:2]] == [["-1", "-1.50", "-0.5"], ["0", "-1.50", "-0.5"]]
    assert written(pa.table({"a": [-math.inf]}), Format.CSV, Reader.EXCEL).decode("utf-8-sig") == '"a"\n"\'-inf"\n'

    plain = written(table, Format.CSV).decode()
    assert [row[0] for row in csv.reader(io.StringIO(plain, newline=""))][1:] == [text or "" for text in texts]


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_csv_for_excel_is_utf_8_whatever_the_locale_says(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    monkeypatch.setattr(sys, "stdout", stream)
    write_table(pa.table({"a": ["é"]}), Format.CSV, Reader.EXCEL)
    stream.flush()
    assert stream.buffer.getvalue().endswith('\ufeff"a"\n"é"\n'.encode())


@pytest.mark.parametrize("arguments", [["sql", "select 1"], ["query", "storage_by_owner"]])
@pytest.mark.parametrize("form", [[], ["--format", "json"], ["--format", "parquet"], ["--format", "csv", "--json"]])
def test_for_excel_with_another_form_is_a_usage_error(arguments, form):
    with pytest.raises(ConfigError, match=r"--for excel: found .*; expected --format csv"):
        app([*arguments, "--for", "excel", *form], standalone_mode=False)
