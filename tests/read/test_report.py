"""The report: opened in a real browser, it asks for nothing, says nothing, and shows all, whatever the names are."""

import datetime as dt
import io
import json
import os
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
from support.browser import Browser, find_browser
from support.job import DATE, job_at
from support.reports import World, write_catalog

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

CHARTS = [chart for section in SECTIONS for chart in section.charts]
DRAWN = [chart.name for chart in CHARTS if not chart.per]
"""Charts of real nights without a table of prices."""
SHOWN = [
    *(
        name
        for chart in CHARTS
        for name in ([f"costs-{unit}" for unit in ("EUR", "USD")] if chart.per else [chart.name])
    )
]
SHOWN += ["volumes-records", "volumes-changes"]
"""Charts of the worlds below: money is in two currencies, and there is a dataset besides those of Nimble."""
TABLES = [table for section in SECTIONS for table in section.tables]
EVIL = (
    '<script>alert("x")</script><img src=x onerror=alert(1)>]]> $\\frac{1}{0}$ &amp; WWWWMMMM 中文工作室的名字'
    "\N{RIGHT-TO-LEFT OVERRIDE}live\x07\n\N{GRINNING FACE}" + "x" * 90
)
WORLDS = {
    "a month of evil names": World(owners=8, name=EVIL),
    "many of all": World(nights=400, studios=40, accounts=3, owners=80, name=EVIL),
    "plain names": World(),
    "one night": World(nights=1, studios=1, owners=1, name="<b>$\\frac{1}{0}$ 一&amp;</b>"),
}
PHONE, SCREEN, A4, LANDSCAPE = 390, 1280, 688, 1017
"""Widths in CSS pixels; the last ones are A4 without its margins."""

FAULTS_OF_LAYOUT = """
(() => {
    const found = [];
    const far = 1;  // pixels; a box of text is larger than its ink
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) found.push(`the page is ${page.scrollWidth} wide`);
    for (const cell of document.querySelectorAll('td, th, dd, dt, p, h1, h2, h3, figcaption'))
        if (cell.scrollWidth > cell.clientWidth + far) found.push(`cut: ${cell.textContent}`);
    for (const figure of document.querySelectorAll('figure')) {
        const frame = figure.querySelector('svg')?.getBoundingClientRect();
        const texts = [...figure.querySelectorAll('text')]
            .map(text => [text.textContent, text.getBoundingClientRect()]);
        texts.forEach(([text, box], place) => {
            if (box.left < frame.left - far || box.right > frame.right + far
                || box.top < frame.top - far || box.bottom > frame.bottom + far)
                found.push(`${figure.id}: cut: ${text}`);
            for (const [other, its] of texts.slice(place + 1))
                if (Math.min(box.right, its.right) - Math.max(box.left, its.left) > far
                    && Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top) > far)
                    found.push(`${figure.id}: ${text} overlaps ${other}`);
        });
    }
    return found;
})()
"""
BARS = """
Object.fromEntries([...document.querySelectorAll('figure')].map(figure => [figure.id,
    [...figure.querySelectorAll('path')].filter(path => /var\\(--c/.test(path.getAttribute('style')))
        .map(path => path.getBoundingClientRect()).filter(box => box.width > 0 && box.height > 0).length]))
"""
FRAMES = """
Object.fromEntries([...document.querySelectorAll('figure svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    return [svg.parentElement.id, [box.left, box.top + scrollY, box.right, box.bottom + scrollY]];
}))
"""
COLOURS = """
['--paper', '--ink', '--quiet', '--c0', '--c1', '--c2', '--c3', '--c4', '--c5'].map(name => [name,
    getComputedStyle(document.documentElement).getPropertyValue(name)])
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no Chromium; .ci/run installs one")
        pytest.skip("there is no Chromium on this machine to open the report with")
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    """Return the report of a world by its name, each made once."""
    made = {}

    def make(name):
        if name not in made:
            place = tmp_path_factory.mktemp("world")
            write_catalog(place / "job", WORLDS[name])
            made[name] = place / "report.html"
            write_report(store_of(load_settings(place / "job" / "config.yaml")), made[name])
        return made[name]

    return make


def settings_of(place, world="a month of evil names", **tables):
    write_catalog(place, WORLDS[world], **tables)
    return load_settings(place / "config.yaml")


def store_catalog(made):
    return duckdb.connect(made.warehouse.path / CATALOG_NAME, read_only=True)


# In a browser


def test_report_of_real_nights_asks_for_nothing_says_nothing_and_draws_every_chart(browser, job, studio, tmp_path):
    job = job_at(job.directory, studio, marts=True)
    for night in (2, 1, 0):
        job.run(DATE - dt.timedelta(night))
    ended = job.cli("report", "--output", str(tmp_path / "mail.html"))
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path / 'mail.html'}\n"), ended.stderr

    browser.show(tmp_path / "mail.html")

    assert browser.requests() == [(tmp_path / "mail.html").as_uri()]
    assert browser.complaints() == []
    bars = browser.evaluate(BARS)
    assert list(bars) == DRAWN
    assert all(bars.values()), bars
    assert browser.evaluate(FAULTS_OF_LAYOUT) == []


def test_what_a_page_asks_for_and_says_is_noticed(browser, tmp_path):
    """Or the test above could not fail."""
    (tmp_path / "page.html").write_text(
        "<script>console.log('x')</script><img src=http://127.0.0.1:1/x><table><td><div style='width:200vw'>x</table>"
        "<figure><svg width=9 height=9><text x=20 y=9>out</text><text x=21 y=9>over</text></svg></figure>"
    )
    browser.show(tmp_path / "page.html")
    assert browser.requests()[1:] == ["http://127.0.0.1:1/x"]
    assert browser.complaints()
    found = "\n".join(browser.evaluate(FAULTS_OF_LAYOUT))
    assert all(text in found for text in ("the page is", "cut: out", "overlaps over"))


@pytest.mark.parametrize("width", [SCREEN, PHONE, A4, LANDSCAPE])
@pytest.mark.parametrize("world", WORLDS)
def test_nothing_overlaps_and_nothing_is_cut(browser, report_of, world, width):
    browser.show(report_of(world), width=width, media="print" if width in {A4, LANDSCAPE} else "screen")
    assert browser.evaluate(FAULTS_OF_LAYOUT) == []
    assert browser.requests() == [report_of(world).as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [SCREEN, PHONE])
def test_every_chart_is_seen(browser, report_of, width, dark):
    """Pixels, not elements: what is drawn in the colour of the paper is there, and nobody sees it."""
    browser.show(report_of("a month of evil names"), width=width, dark=dark)
    colours = dict(browser.evaluate(COLOURS))
    picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    inks = {rgb(colour) for name, colour in colours.items() if name.startswith("--c")}
    frames = browser.evaluate(FRAMES)
    assert list(frames) == SHOWN
    for name, frame in frames.items():
        pixels = picture.crop(tuple(map(round, frame)))
        seen = {colour: count for count, colour in pixels.getcolors(pixels.width * pixels.height)}
        assert sum(count for colour, count in seen.items() if colour in inks) > 200, name
        assert max(seen, key=seen.get) in {rgb(colours["--paper"]), *inks}, name


@pytest.mark.parametrize(("dark", "media", "is_dark"), [(0, "", 0), (1, "", 1), (1, "print", 0)])
def test_colours_differ_enough_from_the_paper_and_paper_is_white_in_print(browser, report_of, dark, media, is_dark):
    """3:1 for graphics, 4.5:1 for text: WCAG 2.1, success criteria 1.4.11 and 1.4.3."""
    browser.show(report_of("one night"), dark=bool(dark), media=media)
    colours = {name: luminance(rgb(colour)) for name, colour in browser.evaluate(COLOURS)}
    paper = colours.pop("--paper")
    assert (paper < 0.05) == bool(is_dark)
    for name, colour in colours.items():
        contrast = (max(paper, colour) + 0.05) / (min(paper, colour) + 0.05)
        assert contrast >= (3 if name.startswith("--c") else 4.5), name


def test_names_are_text_whatever_they_hold(browser, report_of):
    browser.show(report_of("many of all"))
    shown = re.sub("[\x07\n\N{RIGHT-TO-LEFT OVERRIDE}]", "\N{REPLACEMENT CHARACTER}", EVIL)
    assert browser.evaluate("document.querySelectorAll('script, img, td b').length") == 2, "its data and its own script"
    assert shown in browser.evaluate("document.body.textContent")
    ids = browser.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    used = browser.evaluate("[...document.querySelectorAll('use')].map(use => use.getAttribute('href').slice(1))")
    assert set(used) <= set(ids)


def test_nothing_of_a_name_is_markup(report_of):
    """The same, as every machine can tell: no browser is needed to see what was not escaped."""
    text = report_of("many of all").read_text()
    assert re.findall("<script[^>]*>", text) == ['<script type="application/json" id="data">', "<script>"]
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;]]&gt; $\\frac{1}{0}$ &amp;amp; WWWW" in text


def test_names_in_charts_are_text_too(browser, report_of):
    """Between two dollar signs, matplotlib would set a formula."""
    browser.show(report_of("one night"))
    texts = browser.evaluate("[...document.querySelectorAll('#storage-by-owner text')].map(text => text.textContent)")
    assert texts == [WORLDS["one night"].name, "3,000"]


def test_every_chart_is_named_and_described(browser, report_of):
    browser.show(report_of("a month of evil names"))
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in tree if node.get("role", {}).get("value") in {"image", "img"}]
    assert len(images) == len(SHOWN)
    titles = {chart.name: chart.title for chart in CHARTS} | {
        "volumes-records": "Records",
        "volumes-changes": "Changes",
    }
    for name, node in zip(SHOWN, images, strict=True):
        assert node["name"]["value"].startswith(titles[name.removesuffix("-EUR").removesuffix("-USD")])
        assert re.search(r"\d", node["name"]["value"])


def test_printed_chart_stays_on_one_page(browser, report_of):
    browser.show(report_of("a month of evil names"), media="print")
    displays = browser.evaluate("[...document.querySelectorAll('figure')].map(f => getComputedStyle(f).display)")
    assert set(displays) == {"inline-block"}  # which is never broken
    assert browser.pdf().startswith(b"%PDF")


LONG = {
    "Session": "MKnqpadp0NsBV49PZGUGpw",
    "Owner": "a414c0c1-d72d-4df6-f644-9c00e2f3276a",
    "Why": "ACTIVE_DIRECTORY_DOMAIN_JOIN_ERROR",
}
"""What AWS has of the longest, by column. Source of the code: StreamingSessionStatusCode in the service model."""
LINES = f"""
(() => {{
    for (const [name, text] of Object.entries({json.dumps(LONG)}))
        for (const cell of document.querySelectorAll(`td[data-name="${{name}}"]`)) {{
            cell.textContent = text;
            cell.className = "text";
        }}
    return [...document.querySelectorAll('td[data-name="Why"]')].map(cell =>
        Math.floor(cell.getBoundingClientRect().height / parseFloat(getComputedStyle(cell).lineHeight)));
}})()
"""


@pytest.mark.parametrize(("width", "media"), [(SCREEN, "screen"), (LANDSCAPE, "print")])
def test_ids_and_codes_stay_on_one_line(browser, report_of, width, media):
    browser.show(report_of("plain names"), width=width, media=media)
    lines = browser.evaluate(LINES)
    assert lines
    assert set(lines) == {1}


# With its script

CHOOSE = """
((id, value) => {{
    const input = document.getElementById(id);
    input.value = value;
    input.dispatchEvent(new Event("change"));
    return input.value === value;
}})({id!r}, {value!r})
"""
RANKS = {chart.name for chart in CHARTS if chart.kind == "ranks"}
HEIGHTS = """
Object.fromEntries([...document.querySelectorAll('figure')].map(figure => [figure.id,
    [...figure.querySelectorAll('path')].filter(path => /var\\(--c/.test(path.getAttribute('style')))
        .map(path => path.getBBox()).map(box => [Math.round(box.width), Math.round(box.height)])]))
"""
ROWS = """
[...document.querySelectorAll('tbody')].map(body => [...body.rows].map(row => [row.dataset.studio ?? null,
    row.dataset.date ?? null]))
"""
COLUMN = """
[...document.querySelector('th.number').closest('table').querySelectorAll('tbody tr')].map(row =>
    row.cells[row.cells.length - 1].textContent)
"""


def choose(browser, **values):
    for name, value in values.items():
        assert browser.evaluate(CHOOSE.format(id=name.rstrip("_"), value=value)), f"there is no {value}"


def figures(browser):
    shown = browser.evaluate(
        "[...document.querySelectorAll('.figures > div')].map(one => ["
        "one.querySelector('dt').firstChild.textContent.trim(), one.querySelector('strong').textContent.trim(),"
        " one.querySelector('small').textContent])"
    )
    return {f"{title} {value.split()[-1]}" if "ost" in title else title: (value, said) for title, value, said in shown}


def test_a_studio_that_is_chosen_has_the_page_for_itself(browser, report_of):
    browser.show(report_of("plain names"))
    before, heights, everything = figures(browser), browser.evaluate(HEIGHTS), browser.evaluate(ROWS)

    choose(browser, studio="us-west-2-studio1")

    one, other = figures(browser), None
    assert {studio for table in browser.evaluate(ROWS) for studio, _ in table} == {None, "us-west-2-studio1"}
    assert browser.evaluate(HEIGHTS)["nights-records"] == heights["nights-records"], "it is about no studio"
    assert browser.evaluate(HEIGHTS)["hours-by-studio"] != heights["hours-by-studio"]
    assert browser.evaluate(FAULTS_OF_LAYOUT) == []
    choose(browser, studio="ann")
    other = figures(browser)
    for title in ("Sessions", "Failures"):
        values = [int(shown[title][0].replace(",", "")) for shown in (one, other, before)]
        assert values[0] + values[1] == values[2]
        assert 0 not in values
    browser.evaluate("document.getElementById('reset').click()")
    assert figures(browser) == before
    assert browser.evaluate(ROWS) == everything
    assert browser.complaints() == []


def test_the_script_says_of_all_studios_what_the_page_says_without_it(browser, report_of):
    """Two programs compute the key figures and draw the bars: they must agree."""
    browser.show(report_of("plain names"))
    before, heights = figures(browser), browser.evaluate(HEIGHTS)
    labels = "[...document.querySelectorAll('figure text')].map(text => text.textContent)"
    texts = browser.evaluate(labels)
    assert len(before) == 8

    choose(browser, studio="ann")
    choose(browser, studio="")

    assert figures(browser) == before
    assert browser.evaluate(labels) == texts
    for name, boxes in browser.evaluate(HEIGHTS).items():
        side = 0 if name in RANKS else 1
        for now, then in zip(boxes, heights[name], strict=True):
            assert now[side] == pytest.approx(then[side], abs=1.5), name


def test_dates_that_are_chosen_leave_out_others(browser, report_of):
    browser.show(report_of("plain names"))
    heights = browser.evaluate(HEIGHTS)

    choose(browser, from_="2026-11-10", to="2026-11-12")

    dates = {date for table in browser.evaluate(ROWS) for _, date in table} - {None}
    assert dates == {"2026-11-10", "2026-11-11", "2026-11-12"}
    now = browser.evaluate(HEIGHTS)
    for name in ("nights-records", "hours-by-studio", "costs-USD", "volumes-records"):
        widths = [(few[0], many[0]) for few, many in zip(now[name], heights[name], strict=True) if many[0] > 20]
        assert widths, "otherwise these are the squares of the legend"
        assert all(few < many / 5 for few, many in widths), name
    assert now["idle-times"] == heights["idle-times"], "it is about now"
    assert browser.complaints() == []


def test_a_heading_sorts_all_rows_of_its_table_and_those_that_were_not_shown_too(browser, report_of):
    browser.show(report_of("many of all"))
    idle = "[...document.querySelectorAll('h4')].find(one => one.textContent.startsWith('Idle')).nextElementSibling"
    hours = f"[...{idle}.querySelectorAll('tbody tr')].map(row => +row.cells[4].dataset.value)"
    most = browser.evaluate(hours)
    assert (len(most), most) == (15, sorted(most, reverse=True))

    browser.evaluate(f"{idle}.querySelectorAll('th button')[4].click()")
    assert browser.evaluate(f"{idle}.querySelectorAll('th')[4].ariaSort") == "descending"
    browser.evaluate(f"{idle}.querySelectorAll('th button')[4].click()")

    least = browser.evaluate(hours)
    assert (len(least), least) == (15, sorted(least))
    assert max(least) < min(most)
    browser.evaluate(f"{idle}.querySelectorAll('th button')[1].click()")
    names = browser.evaluate(f"[...{idle}.querySelectorAll('tbody tr')].map(row => row.cells[1].textContent)")
    assert names == browser.evaluate(f"{names}.toSorted((one, other) => one.localeCompare(other))")
    assert browser.evaluate(FAULTS_OF_LAYOUT) == []


def test_rows_beyond_the_first_are_shown_on_demand(browser, report_of):
    browser.show(report_of("many of all"))
    note = "document.querySelector('.more')"
    assert browser.evaluate(f"{note}.previousElementSibling.previousElementSibling.tBodies[0].rows.length") == 15
    told = browser.evaluate(f"{note}.querySelector('span').textContent")
    browser.evaluate(f"{note}.querySelector('button').click()")
    shown = browser.evaluate(f"{note}.previousElementSibling.previousElementSibling.tBodies[0].rows.length")
    assert told == f"\N{HORIZONTAL ELLIPSIS} and {shown - 15} more"
    assert browser.evaluate(f"{note}.hidden")


def test_pointer_and_arrow_keys_show_the_values_of_a_bar(browser, report_of):
    browser.show(report_of("plain names"))
    tip = "document.getElementById('tip')"
    assert browser.evaluate(f"{tip}.hidden")
    over = """
    (svg => {
        const box = svg.getBoundingClientRect();
        const event = new PointerEvent('pointermove', {clientX: box.right - 4, clientY: box.top + 60});
        svg.dispatchEvent(event);
        return document.getElementById('tip').innerText;
    })(document.querySelector('#sessions-by-state svg'))
    """
    told = browser.evaluate(over).splitlines()
    assert told[0] == "2026-11-20"
    assert any(line.startswith("running: ") for line in told)
    assert re.fullmatch(r"[\d,]+ sessions", told[-1])
    assert not browser.evaluate(f"{tip}.hidden")
    pressed = "new KeyboardEvent('keydown', {key: 'ArrowLeft'})"
    browser.evaluate(f"document.querySelector('#sessions-by-state svg').dispatchEvent({pressed})")
    assert browser.evaluate(f"{tip}.innerText").splitlines()[0] == "2026-11-19"


def test_a_page_without_script_shows_all_and_offers_nothing_that_does_nothing(browser, report_of):
    """Many programs that open attachments run no script."""
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.show(report_of("plain names"))
        assert browser.evaluate("document.getElementById('filters').hidden")
        assert browser.evaluate("document.querySelectorAll('button').length") == 1, "that of the hidden filters"
        assert all(browser.evaluate(BARS).values())
        assert browser.evaluate("[...document.querySelectorAll('tbody')].every(body => body.rows.length > 0)")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_script_of_anybody_else_does_not_run(browser, report_of, tmp_path):
    """The content security policy names the digest of the one script that may."""
    page = tmp_path / "page.html"
    text = report_of("one night").read_text()
    page.write_text(text.replace("</main>", "<script>document.title = 'taken over'</script></main>"))
    browser.show(page)
    assert browser.evaluate("document.title") == "Nightly report, 2026-11-20"
    assert "Content Security Policy" in str(browser.complaints())
    assert browser.evaluate("document.documentElement.className") == "script", "and the one that may did"


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


def rgb(colour):
    digits = colour.strip().removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    return tuple(bytes.fromhex(digits))


def luminance(colour):
    """Return the relative luminance of an sRGB colour, from 0 to 1, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
