"""Charts as SVG and PNG. A chart fits a telephone; a screen or a sheet of paper shows several beside each other.

The SVG takes its colours from the page, so the same drawing suits a light and a dark page. Its text stays text.
"""

import datetime as dt
import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from etl.read.report.contents import Chart, Rows
from etl.read.report.stacks import Stack, describe, number, stack

WIDTH = 360
"""Width of every chart in CSS pixels. A telephone shows it without scaling."""
PALETTE = ("#2f6fb7", "#c8731c", "#2e8b57", "#8a5fb8", "#cc4b55", "#7a828c")
INK, FAINT = "#1f2328", "#d5d9de"
VARIABLES = {INK: "--ink", FAINT: "--faint", **{colour: f"--c{place}" for place, colour in enumerate(PALETTE)}}
"""Each colour of the drawing, and the CSS variable that replaces it on the page."""

_FONT_SIZE = 11
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.dpi": 72,  # makes a point of the drawing a CSS pixel
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, and is wider than the fonts of browsers
    "font.size": _FONT_SIZE,
    "grid.color": FAINT,
    "legend.columnspacing": 1.2,
    "legend.frameon": False,
    "legend.handleheight": 0.8,
    "legend.handlelength": 0.8,
    "legend.handletextpad": 0.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "nimble-etl",
    "text.color": INK,
    "text.parse_math": False,  # names may contain dollar signs
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
}
_PNG_DPI = 216
_MEASURES = {"seconds", "hours", "GiB", "TiB"}
"""Units that have fractions. All other units count things, so their axes show whole numbers."""
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_BAR = 0.84
_BELOW = 0.17
"""A bar of a ranking stands so far below the middle of its row; its height is twice as much. Its name is above."""
_FEWEST_DAYS = 7
"""An axis of dates spans at least this many days; otherwise the bar of a first night would fill the chart."""
_WIDE, _NARROW = 1.0, 0.64
"""Widths of wide and other characters, in em: upper bounds for the fonts of browsers."""
_LONGEST_NAME = WIDTH / _FONT_SIZE - 2
"""Width of a name above its bar, in em."""

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # otherwise it logs messages about its font cache


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart for the page.

    Attributes:
        svg: an SVG element for a page that sets the CSS variables of `VARIABLES`.
        axis: where its bars stand, in the units of the SVG element: the page's script redraws them by it.
    """

    svg: str
    axis: dict[str, Any]


def draw(chart: Chart, rows: Rows) -> Drawing:
    """Return a chart as it stands on the page. The bars of series i have the id `i`, or those of row r the id `i-r`."""
    written = io.StringIO()
    with _styled():
        figure, axes = _draw(chart, rows)
        figure.draw_without_rendering()  # otherwise the ticks have no places yet
        for place, label in enumerate(axes.get_yticklabels()):
            label.set_gid(f"tick-{place}")
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
        axis = _axis(chart, rows, figure, axes)
    svg = _for_page(ET.fromstring(written.getvalue()), chart, describe(chart, rows))  # noqa: S314  just written above
    return Drawing(svg, axis)


def save_png(chart: Chart, rows: Rows, path: Path) -> None:
    """Write a chart as a picture of its own: with its title, in light colours."""
    with _styled():
        figure, _ = _draw(chart, rows, title=f"{chart.title} ({chart.unit})")
        figure.savefig(path, format="png", dpi=_PNG_DPI)


def shorten(text: str, width_em: float) -> str:
    """Return a text of at most this width; an ellipsis replaces the middle of a longer one."""
    if sum(map(_em, text)) <= width_em:
        return text
    half = (width_em - _WIDE) / 2
    widths = [_em(character) for character in text]
    first = int(np.searchsorted(np.cumsum(widths), half, side="right"))
    last = int(np.searchsorted(np.cumsum(widths[::-1]), half, side="right"))
    return f"{text[:first]}…{text[len(text) - last :]}"


def _em(character: str) -> float:
    wide = character.isupper() or character in "mw@%&" or unicodedata.east_asian_width(character) in "WF"
    return _WIDE if wide else _NARROW


@contextmanager
def _styled() -> Iterator[None]:
    """Draw in the style above and ignore the machine's matplotlibrc."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # browsers have more fonts than matplotlib
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _draw(chart: Chart, rows: Rows, title: str | None = None) -> tuple[Figure, Axes]:
    numbers = stack(chart, rows) if chart.kind == "dates" else stack(chart, rows).shown
    legend = _legend(chart, numbers)
    widest = max((sum(map(_em, entry)) for entry in legend), default=0)
    columns = next((columns for columns in (3, 2) if widest * columns < WIDTH / _FONT_SIZE - 2 * columns), 1)
    draw, height = (_draw_dates, 150) if chart.kind == "dates" else (_draw_ranks, 34 * len(numbers.over))
    height += 18 * -(-len(legend) // columns) + (28 if title else 0)
    figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    axes = figure.add_subplot()
    handles = draw(axes, chart, numbers)
    if legend:
        shown = figure.legend(handles, legend, loc="outside lower left", ncols=columns)
        for place, text in enumerate(shown.get_texts()):
            text.set_gid(f"legend-{place}")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure, axes


def _draw_dates(axes: Axes, chart: Chart, numbers: Stack) -> list[Any]:
    """Draw stacked bars over every day from the first date to the last. A date without rows stays empty."""
    first, last = numbers.over[0], numbers.over[-1]
    days = [first + dt.timedelta(number) for number in range((last - first).days + 1)]
    places = [numbers.over.index(day) if day in numbers.over else None for day in days]
    numbers_of_days = date2num(days)
    # One step path per series takes a tenth of the bytes of one rectangle per bar. NaN leaves the gaps between bars.
    edges = np.column_stack([numbers_of_days - _BAR / 2, numbers_of_days + _BAR / 2]).ravel()
    bottom = np.zeros(2 * len(days) - 1)
    handles = []
    for values, colour in zip(numbers.series.values(), chart.colours, strict=False):
        top = bottom.copy()
        top[::2] += [np.nan if place is None else values[place] for place in places]
        top[1::2] = np.nan
        handles.append(axes.stairs(top, edges, baseline=bottom, fill=True, color=PALETTE[colour], linewidth=0))
        handles[-1].set_gid(f"bars-{len(handles) - 1}")
        bottom = np.nan_to_num(top)
    axes.set_xlim(min(numbers_of_days[0], numbers_of_days[-1] - _FEWEST_DAYS + 1) - 0.6, numbers_of_days[-1] + 0.6)
    axes.set_ylim(0, max(numbers.totals) * 1.05 or 1)
    locator = AutoDateLocator(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    formats, of_firsts = ["%Y", "%b", "%d %b", "", "", ""], ["%Y", "%Y", "%d %b", "", "", ""]
    formatter = ConciseDateFormatter(locator, formats=formats, zero_formats=of_firsts, show_offset=False)
    axes.xaxis.set_major_formatter(formatter)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=max(numbers.totals) == 0 or _is_whole(chart)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return handles


def _draw_ranks(axes: Axes, chart: Chart, numbers: Stack) -> list[Any]:
    """Draw a horizontal bar for each row. Its name stands above it and can use the whole width."""
    axes.set_axis_off()
    longest = max(numbers.totals) or 1
    left = np.zeros(len(numbers.over))
    rows = np.arange(len(numbers.over))
    handles = []
    for values, colour in zip(numbers.series.values(), chart.colours, strict=False):
        handles.append(axes.barh(rows + _BELOW, values, height=2 * _BELOW, left=left, color=PALETTE[colour]))
        for slot, bar in enumerate(handles[-1]):
            bar.set_gid(f"bars-{len(handles) - 1}-{slot}")
        left = left + values
    for row, name, total in zip(rows, numbers.over, numbers.totals, strict=True):
        axes.text(0, row - 0.06, shorten(name, _LONGEST_NAME), va="bottom", gid=f"name-{row:d}")
        axes.text(total + longest * 0.015, row + _BELOW, number(total), va="center", gid=f"total-{row}")
    axes.set_xlim(0, longest * 1.25)
    axes.set_ylim(len(numbers.over) - 0.5, -0.5)
    return handles


def short_names(series: Iterable[str]) -> list[str]:
    """Return the names of series as they stand in the legend."""
    return [shorten(name, 20) for name in series]


def _legend(chart: Chart, numbers: Stack) -> list[str]:
    """Return the label of each colour; over dates, it includes the last number."""
    if len(numbers.series) == 1 and not chart.by:
        return []
    names = short_names(numbers.series)
    if chart.kind == "ranks":
        return names
    return [f"{name} {number(values[-1])}" for name, values in zip(names, numbers.series.values(), strict=True)]


def _axis(chart: Chart, rows: Rows, figure: Figure, axes: Axes) -> dict[str, Any]:
    """Return where bars stand: a value ends at `base` plus `scale` times itself; `bars` are the edges beside it."""
    height = figure.get_size_inches()[1] * figure.dpi
    numbers = stack(chart, rows)

    def at(x: float, y: float) -> tuple[float, float]:
        right, up = axes.transData.transform((x, y))
        return round(float(right), 2), round(float(height - up), 2)

    if chart.kind == "dates":
        bars = [[at(day + side * _BAR / 2, 0)[0] for side in (-1, 1)] for day in date2num(numbers.over)]
        ticks = [float(tick) for tick in axes.get_yticks()]
        top = axes.get_ylim()[1]
        base, whole = at(0, 0)[1], _is_whole(chart)
        scale = (at(0, top)[1] - base) / top
        return {"base": base, "scale": scale, "top": float(top), "bars": bars, "ticks": ticks, "whole": whole}
    slots = range(len(numbers.shown.over))
    bars = [[at(0, slot)[1], at(0, slot + 2 * _BELOW)[1]] for slot in slots]
    base, longest = at(0, 0)[0], max(numbers.shown.totals) or 1
    names = [shorten(name, _LONGEST_NAME) for name in numbers.over]
    scale = (at(longest, 0)[0] - base) / longest
    return {"base": base, "scale": scale, "bars": bars, "names": names, "longest": longest, "ordered": chart.ordered}


def _is_whole(chart: Chart) -> bool:
    return chart.unit not in _MEASURES


def _for_page(svg: ET.Element, chart: Chart, description: str) -> str:
    """Return an SVG element for the page: with title and description, CSS variables as colours, and unique ids."""
    for unwanted in ("{*}metadata", "{*}defs/{*}style/.."):  # this style would apply to the whole page
        for element in svg.findall(unwanted):
            svg.remove(element)
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if "style" in element.attrib:
            element.set("style", _HEX.sub(_variable, element.get("style", "")))
        if "d" in element.attrib:
            element.set("d", _DECIMALS.sub(r"\1", element.get("d", "")))
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{chart.name}-{value}")
            elif name == "href" or "url(#" in value:
                element.set(name, value.replace("#", f"#{chart.name}-", 1))
    svg.attrib = {
        "viewBox": svg.get("viewBox", ""),
        "role": "img",
        "aria-labelledby": f"{chart.name}-title {chart.name}-description",
    }
    for place, (tag, name, text) in enumerate((("title", "title", chart.title), ("desc", "description", description))):
        element = ET.Element(tag, id=f"{chart.name}-{name}")
        element.text = text
        svg.insert(place, element)
    return ET.tostring(svg, encoding="unicode")


def _variable(colour: re.Match[str]) -> str:
    return f"var({VARIABLES[colour[0]]})" if colour[0] in VARIABLES else colour[0]
