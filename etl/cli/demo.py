"""The demonstration: exports three nights of the embedded studio and asks the warehouse three questions."""

import datetime as dt
from collections.abc import Callable
from string import Template

from etl.cli.output import Format, write_table
from etl.config import EMBEDDED, Settings
from etl.errors import ConfigError
from etl.jobs.night import Request, run
from etl.jobs.warehouse import store_of
from etl.model import CATALOG_NAME
from etl.outcome import Outcome
from etl.pipeline.walks import Stop
from etl.read.query import ask, bind, named_query

_NIGHTS = 3
_QUESTIONS = {"nights": {}, "sessions_by_state": {}, "sessions_by_tag": {"tag": "Department"}}


def demo(settings: Settings, stop: Stop, show: Callable[[Outcome], None]) -> int:
    """Export the last three nights, print the answers and the path of the warehouse, and return the exit code.

    Raises:
        ConfigError: the source is not the embedded studio.
    """
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
    print(
        f"\nThe warehouse is {store.at(CATALOG_NAME)}: ask it with `nimble-etl sql`, the duckdb command or any BI tool."
    )
    return 0
