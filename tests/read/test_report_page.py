"""The page of the report in a real browser: it asks for nothing, says nothing, and shows all, whatever the names."""

import datetime as dt
import io
import json
import re

import pytest
from PIL import Image
from support.browser import luminance, rgb
from support.job import DATE, job_at
from support.reports import CHARTS, DRAWN, EVIL, SHOWN, WORLDS

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
