"""Checks run after each publish; what fails is told, kept in the catalog, and ends the run with 5 if it is an error."""

import json
import shutil
from decimal import Decimal

import pytest
from support.job import RUN, job_at

from etl import sqlfiles
from etl.errors import ConfigError
from etl.read.query import answer, bind
from etl.sqlfiles import sql_files

CHECK = """-- {name}.sql
-- Meaning:     No session belongs to somebody.
-- Severity:    {severity}.
-- Grain:       one row per session.
-- Reads:       {reads}.
-- Columns:     session_id: session; owned_by: owner.
select session_id, owned_by from streaming_sessions order by all
"""


@pytest.fixture
def job(tmp_path, studio, monkeypatch):
    return job_at(tmp_path / "job", studio, marts=True).lend_credentials(monkeypatch)


@pytest.fixture
def add_check(tmp_path, monkeypatch):
    """A function that adds a check which always fails to those of the project."""
    directory = tmp_path / "sql"
    shutil.copytree(sqlfiles.sql_directory(), directory)
    monkeypatch.setattr(sqlfiles, "sql_directory", lambda: directory)

    def add(severity, reads="streaming_sessions"):
        name = f"nobody_owns_{severity}"
        (directory / "checks" / f"{name}.sql").write_text(CHECK.format(name=name, severity=severity, reads=reads))
        return name

    return add


def test_an_error_ends_the_run_with_5_and_readers_see_the_night_and_what_is_wrong(job, add_check, caplog):
    name = add_check("error")

    (outcome,) = job.run()

    assert outcome.exit_code == 5
    assert [check.name for check in outcome.failed_checks] == [name]
    (found,) = job.ask("select failures, examples, severity, meaning from etl_checks where failures > 0")
    assert found[0] == job.ask("select count(*) from streaming_sessions")[0][0] > 0
    examples = json.loads(found[1])
    assert len(examples) == 5
    assert examples[0].keys() == {"session_id", "owned_by"}
    assert found[2:] == ("error", "No session belongs to somebody.")
    assert f"check {name}: found {found[0]} rows, expected none" in caplog.text
    assert examples[0]["owned_by"] not in caplog.text, "logs have no data"
    shown = job.cli("check")
    assert shown.returncode == 5
    assert shown.stdout.splitlines()[-1].startswith(f"{name}: [{{")
    ended = job.cli(*RUN)
    assert ended.returncode == 0, "the checks of the command line are those of the project"
    assert job.cli("check").returncode == 0
    assert [row["failures"] for row in json.loads(job.cli("check", "--json").stdout)["checks"]] == [0] * 12


def test_a_warning_is_told_and_nothing_more(job, add_check, caplog):
    name = add_check("warning")

    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert "WARNING  etl.jobs.workplace:workplace.py" in caplog.text
    assert job.ask("select check_name from etl_checks where failures > 0") == [(name,)]


def test_every_check_of_the_project_runs_and_passes_on_a_good_night(job):
    assert job.run()[0].exit_code == 0

    found = job.ask("select check_name, failures, examples from etl_checks order by all")
    assert found == [(name, 0, None) for name in sorted([*sqlfiles.sql_files("checks"), "nothing_is_missing"])]


def test_a_check_whose_sources_are_not_exported_is_left_out(job, add_check):
    name = add_check("error", reads="streaming_sessions, eulas")

    assert job.run()[0].exit_code == 0
    assert job.ask(f"select count(*) from etl_checks where check_name = '{name}'") == [(0,)]


# Prices


def with_prices(job, text):
    (job.directory / "prices.csv").write_text(text)
    job.config.write_text(job.config.read_text().replace("marts: {build: true}", "marts: {prices: prices.csv}"))


def test_hours_cost_what_the_price_table_says(job):
    (kind,) = job.run() and job.ask("select ec2_instance_type from daily_hours limit 1")[0]
    assert job.ask("select count(estimated_cost), count(*) > 0 from daily_hours") == [(0, True)]
    with_prices(job, f"currency,ec2_instance_type,note,price_per_hour\nUSD,{kind},x,1.25\n")

    job.run()

    assert job.ask(
        "select bool_and(estimated_cost = running_hours * 1.25 and currency = 'USD'), count(*) > 0"
        f" from daily_hours where ec2_instance_type = '{kind}'"
    ) == [(True, True)]
    assert job.ask(f"select count(estimated_cost) from daily_hours where ec2_instance_type <> '{kind}'") == [(0,)]
    assert job.ask("from prices") == [("instance_hour", kind, None, None, Decimal("1.25"), "USD")]


COLUMNS = "item,ec2_instance_type,region,valid_from,price,currency"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, ": there is no such file"),
        ("", ": found no header"),
        ("ec2_instance_type,price_per_hour\ng5.xlarge,1\n", ", line 1: found no column currency"),
        ("ec2_instance_type,price_per_hour,currency\ng5.xlarge,cheap,USD\n", ", line 2: price_per_hour: found 'cheap'"),
        ("ec2_instance_type,price_per_hour,currency\ng5.xlarge,,USD\n", ", line 2: price_per_hour: found ''"),
        (
            "ec2_instance_type,price_per_hour,currency\ng5.xlarge,1,USD\ng5.xlarge,2,USD\n",
            ", line 3: g5.xlarge is there twice",
        ),
        (f"{COLUMNS}\ngpu_hour,g5.xlarge,,,1,USD\n", ", line 2: item: found 'gpu_hour'"),
    ],
)
def test_a_price_table_that_is_none_is_refused_before_the_first_request(job, studio, text, problem):
    with_prices(job, text or "")
    if text is None:
        (job.directory / "prices.csv").unlink()

    with pytest.raises(ConfigError, match=f"^marts.prices: .*prices.csv{problem}"):
        job.run()

    assert studio.requests == []


def test_new_prices_change_the_costs_of_all_days_that_they_cover(job):
    """A catalog is made of the whole history, so a correction of an old price reaches old days."""
    job.run()
    kinds = job.ask("select ec2_instance_type, min(day), max(day) from daily_hours group by all order by all")
    kind, first, last = max(kinds, key=lambda found: found[2] - found[1])
    assert first < last
    with_prices(job, f"{COLUMNS}\ninstance_hour,{kind},,,1,USD\n")
    job.run()
    look = (
        "select day, round(sum(instance_cost) / sum(priced_hours), 6)::double, round(sum(unpriced_hours), 6)"
        f" from daily_costs where ec2_instance_type = '{kind}' and running_hours > 0 group by day order by day"
    )
    assert {row[1:] for row in job.ask(look)} == {(1.0, 0.0)}

    with_prices(job, f"{COLUMNS}\ninstance_hour,{kind},us-west-2,{last},3,USD\ninstance_hour,{kind},,,2,USD\n")
    job.run()

    found = job.ask(look)
    assert {row[1:] for row in found if row[0] < last} == {(2.0, 0.0)}
    assert {row[1:] for row in found if row[0] >= last} == {(3.0, 0.0)}


def test_hours_without_a_price_are_counted_told_and_no_part_of_a_cost(job):
    (kind,) = job.run() and job.ask("select ec2_instance_type from daily_hours order by running_hours desc limit 1")[0]
    with_prices(job, f"{COLUMNS}\ninstance_hour,{kind},,,1,USD\n")

    (outcome,) = job.run()

    assert outcome.exit_code == 0, "a warning"
    assert job.ask("select check_name, severity from etl_checks where failures > 0") == [
        ("hours_have_prices", "warning")
    ]
    assert job.ask(
        "select bool_and(instance_cost is null and cost is not distinct from storage_cost), sum(unpriced_hours) > 0"
        f" from daily_costs where ec2_instance_type <> '{kind}'"
    ) == [(True, True)]
    answer = [json.loads(line) for line in job.cli("query", "costs_by_month", "--format", "json").stdout.splitlines()]
    hours, unpriced = (sum(row[name] for row in answer) for name in ("running_hours", "unpriced_hours"))
    assert 0 < unpriced < hours
    assert sum(float(row["cost"] or 0) for row in answer) == pytest.approx(hours - unpriced, abs=0.2), "an hour costs 1"
    assert {row["note"] for row in answer if row["unpriced_hours"]} == {
        "hours and volumes without a price are not part of the cost"
    }


def test_every_named_query_has_an_answer_and_knows_the_values_of_its_parameters(job):
    job.run()
    for query in sql_files("queries").values():
        unknown = {parameter.name: "nobody has this" for parameter in query.parameters if parameter.one_of}
        notes = answer(job.store, query, bind(query, unknown)).notes
        assert len([note for note in notes if "nobody has this: is no " in note]) == len(unknown), query.name


@pytest.mark.parametrize("name", ["costs_by_month", "costs_by_owner", "costs_by_tag", "idle_costs", "unpriced_hours"])
def test_without_a_price_table_queries_about_costs_answer_hours_and_say_so(job, name):
    job.run()

    answer = [json.loads(line) for line in job.cli("query", name, "--format", "json").stdout.splitlines()]

    assert answer
    assert {row["note"] for row in answer} == {"no price table is named: marts.prices names one"}
    costs = {column for column in answer[0] if column.endswith("cost") or column == "currency"}
    assert costs or name == "unpriced_hours"
    assert {row[column] for row in answer for column in costs} <= {None}
    assert sum(row["unpriced_hours"] for row in answer) > 0
