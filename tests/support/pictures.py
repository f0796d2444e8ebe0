"""The pictures of docs/pictures: the top of the report, and a terminal. `make pictures` draws them.

They show the embedded studio's world on fixed dates, so drawing them again gives the same, but for the durations of the
nights. The report needs Chromium.
"""

import datetime as dt
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

import etl.emulator
from etl.configfile import load_settings
from etl.jobs.night import Request, run
from etl.jobs.warehouse import store_of
from etl.pipeline.walks import Stop
from etl.read.report import write_report
from support.browser import Browser, find_browser

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_LAST = dt.date(2026, 11, 20)
_NIGHTS = 16
_CONFIG = """
source: {endpoint_url: embedded}
emulator: {studios: 2, sessions_per_studio: 400}
marts: {prices: prices.csv}
report: {names: owners.csv}
"""
_PRICES = Path(etl.emulator.__file__).with_name("prices.csv")
_SIZE = (1180, 1120)
_COMMANDS = (
    ("query", "sessions_by_state"),
    ("sql", "select day, sum(cost)::decimal(9, 2) as cost from daily_costs group by 1 order by 1 desc limit 3"),
)


def export(directory: Path) -> Path:
    """Export some nights of the embedded studio, with prices and names; return the configuration."""
    config = directory / "config.yaml"
    config.write_text(_CONFIG)
    (directory / "owners.csv").write_text("owned_by,name\n")
    shutil.copy(_PRICES, directory)
    settings = load_settings(config)
    for days in reversed(range(_NIGHTS)):
        run(settings, Request(_LAST - dt.timedelta(days)), Stop())
    return config


def draw_report(config: Path, directory: Path) -> None:
    """Draw the top of the report, in light and dark."""
    settings, page = load_settings(config), directory / "report.html"
    write_report(store_of(settings), page, made_at=dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC))
    program = find_browser()
    if program is None:
        raise SystemExit("there is no Chromium to open the report with; install it, then try again")
    with Browser(program, directory / "profile") as browser:
        for name, dark in (("report-light", False), ("report-dark", True)):
            browser.show(page, width=_SIZE[0], dark=dark)
            shown = Image.open(io.BytesIO(browser.picture())).convert("RGB").crop((0, 0, *_SIZE))
            shown.save(PICTURES / f"{name}.png", optimize=True)


def draw_terminal(config: Path) -> None:
    """Draw what some commands print."""
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    for command in _COMMANDS:
        called = [sys.executable, "-m", "etl", *command, "--config", str(config)]
        shown = subprocess.run(called, capture_output=True, text=True, check=True).stdout
        console.print(Text(f"$ nimble-etl {shlex.join(command)}", style="bold green"))
        console.print(Text(shown))
    drawn = console.export_svg(title="nimble-etl", unique_id="terminal")
    # The picture loads no font from a network.
    (PICTURES / "terminal.svg").write_text(re.sub(r"@font-face \{.*?\}\n", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        made = export(Path(place))
        draw_report(made, Path(place))
        draw_terminal(made)
