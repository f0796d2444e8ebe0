"""Fits a table into a terminal: which columns are shown, and how wide each of them is."""

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_MEASURED_ROWS = 40
"""The first rows tell how wide each column is."""
_WIDEST, _FOLDED, _PROSE = 40, 24, 20
"""Cells of a terminal for longer words; for those that are folded so that all columns fit; and for several words."""
_GAP = 2
"""Cells between two columns."""
_LEFT_OUT = "…"
"""Stands in the place of columns that do not fit."""


class Fold(Enum):
    """Where the texts of a column may be folded: nowhere; between words; or also within a long word among others."""

    NOWHERE = 0
    WORDS = 1
    PROSE = 2


Span = tuple[int, int]
"""How many cells of a terminal a column needs at least, and how many for no folded line."""


def write_fitting(  # noqa: PLR0913  what there is to know about a table
    terminal: "Console",
    lines: Sequence[Sequence[str]],
    *,
    numeric: Sequence[bool],
    fold: Sequence[Fold],
    title: str | None,
    squeeze: bool,
) -> None:
    """Write the columns that fit a terminal, and what the others are. The first line has the names of the columns.

    Columns that are `numeric` stand at the right; `fold` says where texts are folded. With `squeeze`, single words are
    folded too, and a column that says the same of all rows becomes a note, before the last columns are left out.
    Otherwise those in the middle are.
    """
    from rich.table import Table  # noqa: PLC0415  so that `--help` is quick
    from rich.text import Text  # noqa: PLC0415

    columns = list(zip(*lines, strict=True))
    kept = list(range(len(columns)))
    spans, folded = (
        [_span(texts[: _MEASURED_ROWS + 1], widest, fold[place]) for place, texts in enumerate(columns)]
        for widest in (_WIDEST, _FOLDED)
    )
    same = []
    if squeeze and not _fit(spans, terminal.width):
        for place, (name, *texts) in enumerate(columns[1:], 1):
            if not _fit([folded[one] for one in kept], terminal.width) and len(set(texts)) == 1:
                same.append(f"{name} = {texts[0]}")
                kept.remove(place)
        if _fit([folded[one] for one in kept], terminal.width):
            spans = folded
    left, right = choose([spans[place][0] for place in kept], terminal.width, only_left=squeeze)
    shown = [*kept[:left], *kept[len(kept) - right :]]
    gap = [] if len(shown) == len(kept) else [_LEFT_OUT]
    room = terminal.width - _GAP * (len(shown) - 1) - (_GAP + len(_LEFT_OUT)) * len(gap)
    widths = _share([spans[place] for place in shown], room)
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for number, (place, width) in enumerate(zip(shown, widths, strict=True)):
        if gap and number == left:
            table.add_column(_LEFT_OUT)
        justify = "right" if numeric[place] else "left"
        table.add_column(Text(lines[0][place]), justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
    if gap and not right:
        table.add_column(_LEFT_OUT)
    for line in lines[1:]:
        cells = [line[place] for place in shown]
        table.add_row(*map(Text, (*cells[:left], *gap, *cells[left:])))
    terminal.print(table)
    if same:
        terminal.print(Text(f"in all rows: {', '.join(same)}"))
    if gap:
        print(f"{len(shown)} of {len(columns)} columns fit this terminal; a pipe, a file or --json gets all")


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  few texts need it

    return cell_len(text)


def choose(widths: Sequence[int], room: int, *, only_left: bool = False) -> tuple[int, int]:
    """Return how many columns from the left and from the right fit, at least one each if not all do.

    With `only_left`, none from the right, if not all fit.
    """
    if len(widths) < 3 or sum(widths) + _GAP * (len(widths) - 1) <= room:  # noqa: PLR2004  no middle
        return len(widths), 0
    if only_left:
        ends = accumulate((_GAP + width for width in widths), initial=len(_LEFT_OUT))
        return max(1, sum(end <= room for end in ends) - 1), 0
    left, right, used = 1, 1, widths[0] + _GAP + len(_LEFT_OUT) + _GAP + widths[-1]
    while left + right < len(widths) - 1:
        width = widths[left] if left <= right else widths[-right - 1]
        used += _GAP + width
        if used > room:
            break
        left, right = (left + 1, right) if left <= right else (left, right + 1)
    return left, right


def _span(texts: Iterable[str], widest: int, fold: Fold) -> Span:
    """Return the span of a column. A word that is longer than the widest is folded, whatever `fold` says of words."""
    least, most = 0, 0
    for text in texts:
        width, words = width_of(text), [text] if fold is Fold.NOWHERE else text.split()
        longest = max(map(width_of, words), default=0)
        is_prose = fold is Fold.PROSE and len(words) > 1
        least, most = max(least, min(longest, _PROSE if is_prose else widest)), max(most, width)
    return max(least, min(most, _PROSE)), most


def _fit(spans: Sequence[Span], room: int) -> bool:
    return sum(least for least, _ in spans) + _GAP * (len(spans) - 1) <= room


def _share(spans: Sequence[Span], room: int) -> list[int]:
    """Return the width of each column: none less than it needs, the wide ones equal, and no more than the room."""
    for level in range(room, 0, -1):
        widths = [max(least, min(most, level)) for least, most in spans]
        if sum(widths) <= room:
            return widths
    return [least for least, _ in spans]
