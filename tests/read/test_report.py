"""What is in the report, on its page and in its pictures."""

import datetime as dt
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path

import duckdb
import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.browser import rgb
from support.job import DATE, job_at
from support.reports import CHARTS, SHOWN, TABLES, WORLDS, write_catalog

import etl.read.report
from etl.configfile import load_settings
from etl.errors import StorageError, WarehouseError
from etl.jobs.warehouse import store_of
from etl.model import CATALOG_NAME
from etl.read.query import Catalog
from etl.read.report import charts, write_pictures, write_report
from etl.read.report.contents import SECTIONS, Chart, Section, Table
from etl.read.report.figures import FIGURES, Figure, key_figures
from etl.read.report.stacks import plain
from etl.sqlfiles import sql_files


def settings_of(place, world="a month of evil names", **tables):
    write_catalog(place, WORLDS[world], **tables)
    return load_settings(place / "config.yaml")


def store_catalog(made):
    return duckdb.connect(made.warehouse.path / CATALOG_NAME, read_only=True)


# What is in it


def test_tables_are_cut_at_a_number_of_rows_and_say_so(report_of):
    text = report_of("many of all").read_text()
    tables = re.findall(r"<tbody>.*?</tbody>", text, re.DOTALL)
    assert len(tables) == len(TABLES) + len(("newest", "tags"))
    for table in tables:
        assert 1 <= table.count("<tr") <= 15
    assert "more</span>: <code>nimble-etl query idle_sessions</code>" in text


def test_a_studio_is_named_with_its_account_where_there_are_several(report_of):
    assert ">111111111110, us-west-2-studio3</td>" in report_of("many of all").read_text()
    assert "1111111111" not in report_of("a month of evil names").read_text()


def test_studios_of_equal_ids_have_the_names_of_their_own_account_and_region():
    places = [("1", "r"), ("2", "r"), ("2", "q")]
    names = [{"account_id": "2", "region": "r", "studio_id": "s", "studio_name": "moon"}]
    rows = [{"account_id": account, "region": region, "studio_id": "s"} for account, region in places]
    rows.append({"account_id": None, "region": None, "studio_id": "others (3)"})

    etl.read.report._label(rows, names)

    assert [row["studio_id"] for row in rows] == ["1, r, s", "2, r, moon", "2, q, s", "others (3)"]


def test_a_night_that_did_not_go_well_is_said_on_top(report_of):
    assert "<em>Not all is well</em> with the last night" in report_of("one night").read_text()


def test_report_of_other_datasets_says_what_is_left_out_and_why(tmp_path):
    write_report(store_of(settings_of(tmp_path, sessions=False)), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    (said,) = re.findall("<p>(The catalog has no .*)</p>", text)
    assert "recent_hours" in said
    assert "Therefore the report is without: Sessions, Hours," in said
    assert "Running hours by studio, " in said
    assert text.count("<svg") == 3
    assert "<h2>Finance</h2>" not in text
    assert "Sessions</dt>" not in text


@pytest.mark.parametrize("form", ["html", "png"])
def test_warehouse_without_a_night_is_said_to_be_empty_and_nothing_is_written(job, tmp_path, form):
    arguments = ("report", "--format", form, "--output", str(tmp_path / "out"))
    ended = job.cli(*arguments)
    assert ended.returncode == 1
    assert "there is no catalog yet; `nimble-etl run` makes it" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_catalog_without_a_run_is_said_to_be_empty(tmp_path):
    made = settings_of(tmp_path)
    with duckdb.connect(made.warehouse.path / CATALOG_NAME) as connection:
        connection.execute("delete from etl_runs")
    with pytest.raises(WarehouseError, match="no night is published yet; `nimble-etl run` publishes the first"):
        write_report(store_of(made), tmp_path / "report.html")


def test_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    made = settings_of(tmp_path)
    answers = etl.read.report._ask(store_of(made))
    monkeypatch.setattr(etl.read.report, "_ask", lambda *_: answers)
    for write in (write_report, write_pictures):
        with pytest.raises(StorageError, match=r"nowhere"):
            write(store_of(made), Path("/proc/nowhere"))


def test_answers_are_all_of_one_catalog(tmp_path, monkeypatch):
    """A night may end while the report is written: its numbers would not fit those asked for before."""
    made = settings_of(tmp_path / "job")
    write_catalog(tmp_path / "next", WORLDS["one night"])
    newer = tmp_path / "next" / "warehouse" / CATALOG_NAME
    few = {name: sql_files("report")[name] for name in ("nights", "failed_checks", "unfinished_walks")}
    monkeypatch.setattr(etl.read.report, "sql_files", lambda _: few)
    real, asked = Catalog.ask, []

    def ask_then_swap(catalog, statement, parameters=None):
        answer = real(catalog, statement, parameters)
        asked.append(statement)
        if len(asked) == 2:
            newer.replace(store_of(made).at(CATALOG_NAME))
        return answer

    former = etl.read.report._ask(store_of(made))
    assert former.rows["nights"]
    monkeypatch.setattr(Catalog, "ask", ask_then_swap)
    assert etl.read.report._ask(store_of(made)) == former
    assert len(asked) == 2 + len(few), "which tables there are, and the names of studios, too"
    assert etl.read.report._ask(store_of(made)) != former, "and the next report is of the new one"


def test_every_question_of_the_report_is_shown():
    shown = {part.question for section in SECTIONS for part in section.parts}
    assert shown | FIGURES.keys() | {"dataset_records"} == set(sql_files("report"))
    for part in (*CHARTS, *TABLES):
        columns = set(sql_files("report")[part.question].columns)
        named = set(part.columns) if part in TABLES else {part.over, *part.values, *filter(None, [part.by])}
        assert named <= columns


def test_every_key_of_the_contents_is_known():
    """A misspelt key would be ignored without a word."""
    sections = tomllib.loads((resources.files("etl.read.report") / "contents.toml").read_text())["sections"]
    for section in sections:
        assert section.keys() <= {field.name for field in fields(Section)}
        for kind, parts in ((Chart, section.get("charts", ())), (Table, section.get("tables", ()))):
            assert set().union(*parts) <= {field.name for field in fields(kind)}


def test_commands_that_the_report_names_exist():
    for table in TABLES:
        assert table.more.startswith("nimble-etl ")
        name = table.more.removeprefix("nimble-etl query ").split()[0]
        if " query " in table.more:
            assert name in sql_files("queries")


def test_week_is_compared_with_the_week_before_and_money_by_currency(report_of):
    text = re.sub(r"<[^>]+>", " ", report_of("plain names").read_text().partition("<dl")[2].partition("</dl>")[0])
    change = "[+\N{MINUS SIGN}\N{PLUS-MINUS SIGN}]\\d+ % on [\\d,.]+"
    for said in (r"Sessions +[\d,.]+", r"Hours +7 days +[\d,.]+ M +h", r"Cost +7 days +[\d,.]+ M +EUR"):
        assert re.search(f"{said} +{change}", text), (said, text)
    first = report_of("one night").read_text()
    assert first.count("<small>no week before yet</small>") == 4, "no day is over, so nothing has a cost"
    assert "1 day so far" in first


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (110, [100], "+10 % on 100"),
        (90.5, [100.5], "\N{MINUS SIGN}10 % on 100"),
        (100.2, [100], "\N{PLUS-MINUS SIGN}0 % on 100"),
        (7, [7], "as the week before"),
        (7, [0], "0 the week before"),
        (7, [], "no week before yet"),
        (3e6, [1.5e6], "+100 % on 1.5 M"),
    ],
)
def test_comparison_is_in_words(now, then, said):
    assert Figure("Hours", "h", [("a", now)], [("a", value) for value in then]).comparison == said


def test_figures_of_money_are_those_of_their_currency():
    costs = [
        {"studio_id": "a", "currency": currency, "days": 7, "cost": cost, "cost_before": 1, "idle_cost": 0,
         "idle_cost_before": 0}
        for currency, cost in (("USD", 5), ("EUR", 7), (None, 0), ("USD", 2))
    ]  # fmt: skip
    found = [(figure.title, figure.unit, figure.text) for figure in key_figures({"costs_of_week": costs})]
    assert found == [
        ("Cost", "EUR", "7"),
        ("Idle cost", "EUR", "0"),
        ("Cost", "USD", "7"),
        ("Idle cost", "USD", "0"),
    ]


def test_report_without_costs_says_so(tmp_path):
    write_report(store_of(settings_of(tmp_path, "plain names", costs=False)), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    left = "Cost, Idle cost, Cost by studio, Cost by studio, Cost by Region, Cost by tag, Cost by owner"
    assert f"The catalog has no daily_costs, daily_costs_by_tag. Therefore the report is without: {left}." in text
    assert "Cost</dt>" not in text


def test_names_of_owners_are_shown_and_their_ids_stay_there(tmp_path):
    made = settings_of(tmp_path, "plain names")
    with store_catalog(made) as connection:
        owners = connection.execute("select distinct owned_by from streaming_sessions order by all").fetchall()
    (ben,), (eve,) = owners[1:3]
    (tmp_path / "owners.csv").write_text(f"owned_by,name\n{ben},Ben\n{eve},<i>Eve</i>\nnobody,Bob\n")
    write_report(store_of(made), tmp_path / "report.html", tmp_path / "owners.csv")
    text = (tmp_path / "report.html").read_text()
    assert f'data-name="Owner" title="{ben}">Ben</td>' in text
    assert f'title="{eve}">&lt;i&gt;Eve&lt;/i&gt;</td>' in text
    assert f">{ben}<" not in text
    assert "Bob" not in text


def test_config_names_the_file_of_names(tmp_path):
    made = settings_of(tmp_path, "plain names")
    (tmp_path / "config.yaml").write_text("source: {endpoint_url: embedded}\nreport: {names: owners.csv}\n")
    assert load_settings(tmp_path / "config.yaml").report.names == tmp_path / "owners.csv"
    assert made.report.names is None


def test_other_datasets_have_records_changes_tags_growth_and_the_newest(report_of):
    text = report_of("plain names").read_text()
    page = text.partition("<h2>Datasets</h2>")[2]
    (section,) = re.findall(r"<h3>volumes</h3>.*?</section>", page, re.DOTALL)
    assert 'id="volumes-records"' in section
    assert 'id="volumes-changes"' in section
    assert re.search(r"<h4>Newest records</h4>.*>Volume id<.*>vol-r0<.*>ann<", section, re.DOTALL)
    assert re.search(r'<h4>Tag coverage</h4>.*>ann<.*data-value="100.0"', section, re.DOTALL)
    growth = page.partition("<h3>volumes</h3>")[0]
    assert all(f">{name}</td>" in growth for name in ("volumes", "streaming_sessions"))


def test_report_of_real_datasets_finds_their_tables(job, studio, tmp_path):
    """A change log and a table of tags are found by the slices of their rows, whatever they are called."""
    job = job_at(job.directory, studio, marts=True, rest="datasets: [studios, streaming_images, launch_profiles]")
    for night in (1, 0):
        job.run(DATE - dt.timedelta(night))
    write_report(store_of(job.settings()), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for name in ("launch_profiles", "streaming_images"):
        (section,) = re.findall(rf"<h3>{name}</h3>.*?</section>", text, re.DOTALL)
        assert all(f'id="{name}-{chart}"' in section for chart in ("records", "changes"))
        assert "Newest records" in section
    assert "Tag coverage" in text
    assert "<h3>studios</h3>" not in text


# Pictures


def test_every_chart_is_a_picture_too(tmp_path):
    written = write_pictures(store_of(settings_of(tmp_path, "many of all")), tmp_path / "pictures")
    assert [path.name for path in written] == [f"{name}.png" for name in SHOWN]
    for path in written:
        picture = Image.open(path).convert("RGB")
        assert picture.width == 3 * charts.WIDTH
        colours = {colour for _, colour in picture.getcolors(picture.width * picture.height)}
        assert colours & {rgb(colour) for colour in charts.PALETTE}, path.name
        border = [picture.crop((0, 0, 2, picture.height)), picture.crop((picture.width - 2, 0, *picture.size))]
        assert all(edge.getcolors() == [(2 * picture.height, (255, 255, 255))] for edge in border), path.name


def test_drawing_is_the_same_whatever_the_settings_of_the_machine():
    chart, rows = CHARTS[0], [{"snapshot_date": DATE, "seconds": 1.5}]
    usual = charts.draw(chart, rows)
    with mpl.rc_context({"font.size": 40, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert charts.draw(chart, rows) == usual


def test_names_that_no_drawing_can_hold_are_drawn_without():
    """XML 1.0 has no place for them; JSON has."""
    chart, rows = CHARTS[0], [{"snapshot_date": DATE, "seconds": 1.5}]
    assert plain("a\uffffb\ufffe") == "a\ufffdb\ufffd"
    assert charts.draw(chart, rows).svg


def test_colours_of_the_drawing_are_those_of_the_page_in_light(report_of):
    text = report_of("one night").read_text()
    for colour, name in charts.VARIABLES.items():
        values = re.findall(rf"{name}: (#[0-9a-f]+);", text)
        assert len(values) == 2
        assert rgb(values[0]) == rgb(colour)
        assert values[0] != values[1]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60), st.integers(3, 40))
def test_shortened_name_is_its_beginning_and_end_and_not_too_wide(text, width):
    short = charts.shorten(text, width)
    assert sum(map(charts._em, short)) <= width
    if short != text:
        start, _, end = short.partition("…") if "…" not in text else ("", "", "")
        assert text.startswith(start)
        assert text.endswith(end)
    assert charts.shorten(short, width) == short


def test_night_without_a_run_is_a_gap_and_a_missing_series_is_nothing():
    chart = next(chart for chart in CHARTS if chart.name == "storage-by-studio")
    rows = [
        {"snapshot_date": dt.date(2026, 11, day), "studio_id": studio, "volume_tib": tib}
        for day, studio, tib in ((20, "a", 1), (18, "a", 2), (20, "b", 3))
    ]
    found = charts.stack(chart, rows)
    assert found.over == [dt.date(2026, 11, 18), dt.date(2026, 11, 20)]
    assert found.series == {"a": [2, 1], "b": [0, 3]}
    assert (
        charts.describe(chart, rows) == "TiB on 2 dates from 2026-11-18 to 2026-11-20, at most 4; on the last: a 1; b 3"
    )


# Starting


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_libraries_of_the_report_are_loaded_by_the_report_only(library):
    code = f"import sys; import etl.cli, etl.jobs.night, etl.read.query; sys.exit('{library}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
