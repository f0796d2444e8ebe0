"""The numbers of a chart: those that it shows as it is drawn, and those that the page's filters choose from."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from etl.read.report.contents import Chart, Rows

_PARTS = 5
"""A stack over studios has so many parts of their own; the other studios are one part."""
_SLOTS = 10
"""A ranking shows so many bars."""
_ROUNDED_FROM = 100


@dataclass(frozen=True, slots=True)
class Stack:
    """The numbers of a chart. Each series, by its label, has one value for each date or name in `over`."""

    over: list[Any]
    series: dict[str, list[float]]

    @property
    def totals(self) -> list[float]:
        """Return the height of each bar."""
        return [sum(values) for values in zip(*self.series.values(), strict=True)]

    @property
    def shown(self) -> "Stack":
        """Return the first bars only, as many as a ranking shows."""
        return Stack(self.over[:_SLOTS], {name: values[:_SLOTS] for name, values in self.series.items()})


def stack(chart: Chart, rows: Rows) -> Stack:
    """Return the numbers of a chart from the rows of its answer. Dates are sorted; a missing row counts as 0."""
    labels = _labels(chart, rows)
    found: dict[str, dict[Any, float]] = {name: {} for name in labels.values()}
    for place, name, _, value in _cells(chart, rows, labels):
        found[name][place] = found[name].get(place, 0) + value
    over = list(dict.fromkeys(_place(chart, row) for row in rows))
    if chart.kind == "dates":
        over.sort()
    return Stack(over, {name: [values.get(place, 0) for place in over] for name, values in found.items()})


def cube(chart: Chart, rows: Rows) -> dict[str, Any]:
    """Return the numbers of a chart, studio by studio, as JSON: the page's script sums up those that are chosen.

    A cell is (index of a date or name, of a series, of a studio; value). Zeros are left out. Rows of no studio have -1.
    """
    numbers, labels = stack(chart, rows), _labels(chart, rows)
    series, places = (
        {name: i for i, name in enumerate(numbers.series)},
        {name: i for i, name in enumerate(numbers.over)},
    )
    studios = {name: i for i, name in enumerate(dict.fromkeys(row["studio_id"] for row in rows if "studio_id" in row))}
    sums: dict[tuple[int, int, int], float] = {}
    for place, name, studio, value in _cells(chart, rows, labels):
        cell = (places[place], series[name], studios.get(studio, -1))
        sums[cell] = sums.get(cell, 0) + value
    return {
        "kind": chart.kind,
        "unit": chart.unit,
        "over": [str(place) for place in numbers.over],
        "series": list(series),
        "studios": [plain(studio) for studio in studios],
        "cells": [[*cell, round(value, 3)] for cell, value in sums.items() if value],
    }


def _labels(chart: Chart, rows: Rows) -> dict[str, str]:
    """Return column of numbers, or part of a stack, -> label of its series."""
    if not chart.by:
        return dict(chart.values)
    (column,) = chart.values
    totals: dict[str, float] = {}
    for row in rows:
        name = plain(row[chart.by])
        totals[name] = totals.get(name, 0) + float(row[column] or 0)
    first = sorted(totals, key=lambda name: (-totals[name], name))[:_PARTS]
    others = f"others ({len(totals) - len(first)})"
    return {name: name for name in sorted(first)} | {name: others for name in totals if name not in first}


def _cells(chart: Chart, rows: Rows, labels: Mapping[str, str]) -> Iterator[tuple[Any, str, Any, float]]:
    """Yield place, label of the series, studio and value of each number."""
    for row in rows:
        for column in chart.values:
            name = labels[plain(row[chart.by])] if chart.by else labels[column]
            yield _place(chart, row), name, row.get("studio_id"), float(row[column] or 0)


def _place(chart: Chart, row: Mapping[str, Any]) -> Any:
    return row[chart.over] if chart.kind == "dates" else plain(row[chart.over])


def describe(chart: Chart, rows: Rows) -> str:
    """Return in words what a chart shows, for people who cannot see it."""
    numbers = stack(chart, rows)
    if chart.kind == "ranks":
        numbers = numbers.shown
        bars = zip(numbers.over, numbers.totals, strict=True)
        return f"{chart.unit}: " + "; ".join(f"{name} {number(total)}" for name, total in bars)
    dates = f"{len(numbers.over)} dates from {numbers.over[0]} to {numbers.over[-1]}"
    last = "; ".join(f"{name} {number(values[-1])}".strip() for name, values in numbers.series.items())
    return f"{chart.unit} on {dates}, at most {number(max(numbers.totals))}; on the last: {last}"


def number(value: float) -> str:
    """Return a number as people read it: whole from a hundred on, with one decimal below."""
    return f"{value:,.1f}" if value % 1 and value < _ROUNDED_FROM else f"{value:,.0f}"


def plain(value: Any) -> str:
    """Return a value as one line of text. Control, format and unassigned characters and surrogates are replaced."""
    text = "none" if value is None else str(value)
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in {"Cc", "Cf", "Cn", "Cs"} else c for c in text
    )
