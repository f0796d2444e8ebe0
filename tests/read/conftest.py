"""A browser, and reports of whole worlds."""

import os

import pytest
from support.browser import Browser, find_browser
from support.reports import WORLDS, write_catalog

from etl.configfile import load_settings
from etl.jobs.warehouse import store_of
from etl.read.report import write_report


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
