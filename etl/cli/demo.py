"""The demonstration: exports three nights of the embedded studio, asks three questions, and writes the report."""

import datetime as dt
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template

from etl.cli.options import CONFIG, DEMO, command, settings_of
from etl.cli.output import Format, write_table
from etl.config import EMBEDDED
from etl.configinit import first_text, new_file
from etl.errors import ConfigError
from etl.jobs.night import Request, run
from etl.jobs.warehouse import store_of
from etl.model import CATALOG_NAME
from etl.outcome import Outcome
from etl.pipeline.walks import Stop
from etl.read.query import ask, bind, named_query

_NIGHTS = 3
_PRICES = Path(str(resources.files("etl"))) / "emulator" / "prices.csv"
_QUESTIONS = {"nights": {}, "sessions_by_state": {}, "sessions_by_tag": {"tag": "Department"}}


def demo(config: Path | None, into: Path, stop: Stop, show: Callable[[Outcome], None]) -> int:
    """Export the last three nights, print the answers, write the report beside the configuration; return the exit code.

    Without a configuration, one is written into the directory `into`, with a table of prices beside it. At the end
    stand commands to go on with.

    Raises:
        ConfigError: the source is not the embedded studio.
    """
    if config is None:
        config = into / CONFIG
        if not config.exists():
            text = first_text(for_aws=False, region=None)
            with new_file(config, text.replace("{prices: null}       ", "{prices: prices.csv} ")):
                shutil.copyfile(_PRICES, config.with_name(_PRICES.name))
    settings = settings_of(config)
    marts = settings.marts.model_copy(update={"prices": settings.marts.prices or _PRICES})
    settings = settings.model_copy(update={"marts": marts})
    if settings.source.endpoint_url != EMBEDDED:
        raise ConfigError("demo: source.endpoint_url is not 'embedded'; the demonstration sends no requests to AWS")
    today = dt.datetime.now(dt.UTC).date()
    for days in reversed(range(_NIGHTS)):
        for outcome in run(settings, Request(today - dt.timedelta(days)), stop):
            show(outcome)
            if outcome.exit_code:
                return outcome.exit_code
    store = store_of(settings)
    for name, values in _QUESTIONS.items():
        query = named_query(name)
        bound = bind(query, values)
        print("\n" + Template(query.headers["Question"]).safe_substitute(bound))
        write_table(ask(store, query.text, bound), Format.TABLE)
    from etl.read.report import write_report  # noqa: PLC0415  its charts take a second to import

    report = config.with_name("report.html")
    write_report(store, report, settings.report.names)
    print(f"\nThe studios are invented. Their costs follow from the prices in {settings.marts.prices}.")
    print(f"The report is {report}. The warehouse is {store.at(CATALOG_NAME)}: any BI tool opens it.")
    print("Ask it yourself:\n")
    given = CONFIG if config == DEMO / CONFIG and not CONFIG.exists() else config
    for words in (("sql", "from streaming_sessions limit 5"), ("query", "--list"), ("describe", "streaming_sessions")):
        print(f"    {command(given, *words)}")
    return 0
