"""Settings: every mistake names its place, what was found and what was expected, and no secret is ever repeated."""

import datetime as dt
import os
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.config import EMBEDDED, Settings, parse_duration
from etl.configfile import Overrides, load_settings
from etl.errors import ConfigError, DeniedError
from etl.jobs.workplace import content_of
from etl.model import Dataset

CANARY = "canary-4f7c1e"


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("NIMBLE_ETL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "config.yaml"

    def write(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def mistake(write):
    """Return the message for a file that is wrong; the whole chain of errors must be free of the canary."""

    def mistake(content, overrides=None):
        with pytest.raises(ConfigError) as caught:
            load_settings(write(content), overrides)
        return str(caught.value)

    return mistake


# What is right


def test_no_settings_at_all_are_the_defaults(write, tmp_path):
    settings = load_settings(write(""))
    assert settings.source.endpoint_url == EMBEDDED
    assert settings.datasets == ("studios", "streaming_sessions")
    assert settings.run.concurrency == 8
    assert settings.state_dir == tmp_path / "state"
    assert settings.warehouse.path == tmp_path / "warehouse"


def test_relative_paths_start_at_the_file_not_at_the_working_directory(write, tmp_path, monkeypatch):
    path = write("state_dir: a/b\nwarehouse: {path: ../c}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load_settings(path)
    assert settings.state_dir == tmp_path / "a/b"
    assert settings.warehouse.path == tmp_path / "../c"


def test_absolute_paths_stay_as_they_are(write, tmp_path):
    settings = load_settings(write(f"state_dir: {tmp_path / 'x'}\n"))
    assert settings.state_dir == tmp_path / "x"


def test_relative_paths_start_at_the_file_even_if_it_was_named_relatively(write, tmp_path, monkeypatch):
    name = write("").name
    monkeypatch.chdir(tmp_path)
    assert load_settings(type(tmp_path)(name)).state_dir == tmp_path / "state"


def test_dataset_may_be_defined_in_place(write):
    settings = load_settings(
        write("datasets:\n- studios\n- {name: jobs, service: deadline, operation: list_jobs, key: [job_id]}\n")
    )
    assert settings.datasets == (
        "studios",
        Dataset(name="jobs", service="deadline", operation="list_jobs", key=("job_id",)),
    )


def test_settings_are_frozen(write):
    settings = load_settings(write(""))
    for part, name in ((settings, "state_dir"), (settings.run, "concurrency"), (settings.source.retry, "timeout")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(part, name, 1)


def test_named_studios_are_pins_of_the_parameter_that_lists_them(write):
    assert load_settings(write("")).source.pins == {}
    assert load_settings(write("source: {studio_ids: [b, a]}")).source.pins == {"studioId": ("b", "a")}


@pytest.mark.parametrize("word", ["NO", "no", "Yes", "on", "off", "y", "1e3x", "~x", "12:30:45"])
def test_fault_55_words_stay_text(write, word):
    """YAML 1.1 reads NO as false: the studio of Norway would be asked for as `False`."""
    assert load_settings(write(f"source: {{studio_ids: [{word}, '{word}']}}")).source.studio_ids == (word, word)


def test_fault_55_number_where_text_is_expected_is_an_error_not_another_text(mistake):
    """012345678901 is a number, and 12345678901 would be another account."""
    message = mistake("source:\n  account_id: 012345678901\n")
    assert "line 2" in message
    assert "source.account_id" in message
    assert "expected text; put it in quotes" in message


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("15m", 900), ("3h", 10800), ("2d", 172800), ("1h30m", 5400), ("1h 30m", 5400), ("1.5h", 5400),
        ("0s", 0),
    ],
)  # fmt: skip
def test_duration_is_what_its_units_say(text, seconds):
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", " ", "3", "h", "3 h", "-3h", "3h?", "h3", "1:30", "3x", "3hm", "9" * 400 + "d"])
def test_text_that_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from("smhd")), min_size=1, max_size=5))
def test_duration_is_the_sum_of_its_parts(parts):
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    expected = sum((dt.timedelta(**{units[unit]: number}) for number, unit in parts), dt.timedelta())
    assert parse_duration("".join(f"{number}{unit}" for number, unit in parts)) == expected


@pytest.mark.parametrize(
    ("part", "name"),
    [("run", "max_duration"), ("run", "max_checkpoint_age"), ("source", "timeout"), ("source", "wait_max")],
)
def test_every_duration_takes_the_same_words_and_numbers_of_seconds(write, part, name):
    def setting(value):
        where = f"{part}: {{retry: {{{name}: {value}}}}}" if part == "source" else f"{part}: {{{name}: {value}}}"
        settings = load_settings(write(where))
        return getattr(settings.source.retry if part == "source" else settings.run, name)

    assert setting("1h30m") == dt.timedelta(hours=1, minutes=30)
    assert setting("90") == dt.timedelta(seconds=90)
    for wrong in ("tomorrow", "-5", "99999999999d", "''", "[1]"):
        with pytest.raises(ConfigError, match=f"line 1: .*{name}: found "):
            setting(wrong)


# What is wrong: file, line, found, expected

MISTAKES = {
    "unknown key": ("run:\n  concurency: 8\n", 2, ["run.concurency", "not a setting (did you mean concurrency?)"]),
    "unknown key at the top": ("\n\nsauce: {}\n", 3, ["sauce", "not a setting (did you mean source?)"]),
    "unknown key of a dataset": (
        "datasets:\n- name: a\n  service: b\n  operation: c\n  key: [d]\n  kee: e\n", 6, ["datasets.0.kee", "not a"],
    ),
    "duplicate key": ("run:\n  max_items: 8\n  max_pages: 1\n  max_items: 9\n", 4, ['key "max_items"; keep one']),
    "duplicate key at the top": ("run: {}\nrun: {}\n", 2, ['duplicate key "run"']),
    "duplicate key named like the message": ("a with value b: 1\na with value b: 2\n", 2, ['key "a with value b"']),
    "text for a number": ("run:\n  concurrency: many\n", 2, ["run.concurrency", "found 'many'", "a whole number"]),
    "fraction for a whole number": ("run:\n\n  max_items: 1.5\n", 3, ["run.max_items", "found 1.5", "a whole number"]),
    "number too small": ("run: {concurrency: 0}", 1, ["run.concurrency", "found 0", "expected at least 1"]),
    "number too large": ("run: {concurrency: 65}", 1, ["run.concurrency", "found 65", "expected at most 64"]),
    "number for text": ("source:\n  region: 5\n", 2, ["source.region", "found 5", "expected text; put it in quotes"]),
    "text of another form": ("source:\n  region: moon\n", 2, ["source.region", "found 'moon'", "a Region such as"]),
    "text for a list": ("source:\n  studio_ids: abc\n", 2, ["source.studio_ids", "found 'abc'", "a list, such as"]),
    "list for a mapping": ("source: [1]\n", 1, ["source", "found a list", "expected settings, such as `name: value`"]),
    "mapping for text": ("\nstate_dir: {a: b}\n", 2, ["state_dir", "found a mapping", "path"]),
    "null for a mapping": ("run: {}\nsource: null\n", 2, ["found nothing; expected settings", "remove the line"]),
    "number as a dataset": ("datasets:\n- studios\n- 5\n", 3, ["datasets.1", "found 5", "expected settings"]),
    "dataset without what it needs": ("datasets:\n- studios\n- name: jobs\n", 3, ["datasets.1.service: is missing"]),
    "dataset with a name that is none": (
        "datasets:\n- service: a\n  operation: b\n  key: [c]\n  name: A-1\n", 5, ["found 'A-1'", "small"],
    ),
    "no duration": ("run:\n  max_duration: soon\n", 2, ["run.max_duration", "found 'soon'", "90s, 15m, 3h or 1h30m"]),
    "no URL": ("source:\n  endpoint_url: nimble\n", 2, ["source.endpoint_url", "found 'nimble'", "http(s) URL"]),
    "URL and a newline": ('source: {endpoint_url: "http://a\\n"}', 1, ["source.endpoint_url", "http(s) URL"]),
    "path that deltalake confuses": ("warehouse:\n  path: a%20b\n", 2, ["warehouse.path: found 'a%20b'", "has '%'"]),
    "path that is half a URL": ("warehouse:\n  path: a?b\n", 2, ["warehouse.path: found 'a?b'", "has '?' in it"]),
    "time-out of nothing": ("on_finish:\n  timeout: 0s\n", 2, ["on_finish.timeout", "expected more than 0 seconds"]),
    "path that is a URL": ("warehouse:\n  path: gs://b/x\n", 2, ["warehouse.path: found 'gs://b/x'", "is a URL"]),
    "path of another system": ("warehouse:\n  path: a\\b\n", 2, ["warehouse.path", "in it, which deltalake cannot"]),
    "path in two lines": ('warehouse:\n  path: "a\\nb"\n', 2, ["warehouse.path", "has '\\n' in it"]),
    "tab": ("run:\n\tconcurrency: 8\n", 2, ["not YAML", "\\t"]),
    "quote that does not end": ("run: {}\nstate_dir: 'x\n", 3, ["not YAML"]),
    "bracket that does not end": ("run: {}\ndatasets: [a\n", 3, ["not YAML"]),
    "alias": ("a: &a [x]\nb:\n- *a\n", 3, ["found an alias", "write the value out"]),
    "merged alias": ("run: &r {concurrency: 8}\nsource:\n  <<: *r\n", 3, ["found an alias"]),
    "undefined alias": ("\nrun: *nowhere\n", 2, ["found an alias"]),
    "lists nested as no person does": ("\na: " + "[" * 9999, 2, ["nested too deep"]),
    "mappings nested as no person does": ("\na: " + "{b: " * 9999, 2, ["nested too deep"]),
    "second document": ("run: {}\n---\nrun: {}\n", 2, ["not YAML", "another document"]),
    "list": ("- run\n", 1, ["found a list", "expected settings"]),
    "single value": ("run\n", 1, ["found a single value", "expected settings"]),
    "key that is a number": ("run: {}\n5: x\n", 2, ["5", "not a name"]),
    "key that is a list": ("? [a]\n: b\n", 1, ["not a name"]),
    "order to the settings library": ("run: {}\n_env_file: .env\n", 2, ["_env_file", "not a setting"]),
    "order to parse the command line": ("_cli_parse_args: true\n", 1, ["_cli_parse_args", "not a setting"]),
    "tag that asks for Python": ("state_dir: !!python/object/apply:os.getcwd []", 1, ["state_dir", "found a list"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_fault_55_mistake_names_file_line_found_and_expected(mistake, tmp_path, name):
    content, line, fragments = MISTAKES[name]
    message = mistake(content)
    assert message.startswith(f"{tmp_path / 'config.yaml'}, line {line}: ")
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"run: \xff\n", "is not UTF-8 text"),
        ("run: \0\n", "not YAML"),
        ("state_dir: 2001-13-45", "put it in quotes"),
        ("# " + "x" * 10_000_000, "at most 1000000"),
    ],
    ids=["not UTF-8", "NUL", "no date", "10 MB"],
)
def test_fault_55_file_that_cannot_be_read_is_named(mistake, tmp_path, content, expected):
    message = mistake(content)
    assert message.startswith(f"{tmp_path / 'config.yaml'}: ")
    assert expected in message


def test_missing_file_says_how_to_name_one(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such file; `nimble-etl init` writes one"):
        load_settings(tmp_path / "nowhere.yaml")


def test_directory_is_not_a_configuration(tmp_path):
    with pytest.raises(DeniedError, match="Is a directory; expected a file there"):
        load_settings(tmp_path)


def test_fault_55_alias_bomb_is_refused_before_it_is_expanded(mistake):
    """Nine levels of ten aliases are a billion values, in 400 bytes."""
    levels = ["a0: &a0 [x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    message = mistake("\n".join(levels))
    assert "line 2: found an alias" in message


def test_all_mistakes_of_a_file_are_said_at_once(mistake):
    message = mistake("run:\n  concurrency: 0\n  max_pages: 0\nsauce: 1\n")
    assert [line.split(": ")[0].rsplit(" ", 1)[1] for line in message.splitlines()] == ["2", "3", "4"]


def test_long_value_is_not_repeated_whole(mistake):
    message = mistake(f"source: {{region: {'x' * 5000}}}")
    assert len(message) < 500


# Secrets


@pytest.mark.parametrize(
    "content",
    [
        f"aws_secret_access_key: {CANARY}\n",
        f"source:\n  aws_access_key_id: {CANARY}\n",
        f"source:\n  credentials: {{secret: {CANARY}}}\n",
        f"source: {{session_token: {CANARY}}}\n",
        f"source: {{password: {CANARY}}}\n",
        f"run: {{unheard_of: {CANARY}}}\n",
        f"source:\n  secret_key: {CANARY}\n  secret_key: {CANARY}\n",
        f"source:\n  endpoint_url: https://user:{CANARY}@host\n",
        f"source:\n  endpoint_url: https://{CANARY}@host/x\n",
        f"source: {{credentials: [{CANARY}}}\n",
        f"source: '{CANARY}\n",
        f"_secrets_dir: {CANARY}\n",
    ],
)
def test_fault_56_secret_in_the_file_is_never_repeated(write, content):
    """Not in the message, and not in the traceback either, which goes to the log of a nightly job."""
    with pytest.raises(ConfigError) as caught:
        load_settings(write(content))
    assert CANARY not in str(caught.value)
    assert "line " in str(caught.value)


@pytest.mark.parametrize(
    "key", ["aws_access_key_id", "AWS_SECRET_ACCESS_KEY", "session_token", "db_password", "credentials"]
)
def test_fault_55_credentials_in_the_file_are_refused_with_the_place_where_they_belong(mistake, key):
    message = mistake(f"source:\n  {key}: {CANARY}\n")
    assert (
        f"line 2: source.{key}: credentials do not belong in the configuration; use the AWS credential chain" in message
    )


@pytest.mark.parametrize("name", ["NIMBLE_ETL_SOURCE", "NIMBLE_ETL_DATASETS", "NIMBLE_ETL_SOURCE__STUDIO_IDS"])
def test_fault_56_secret_in_the_environment_is_never_repeated(write, monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    with pytest.raises(ConfigError) as caught:
        load_settings(write(""))
    assert name in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# The environment and the flags


def test_environment_wins_over_the_file(write, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_WAREHOUSE__PATH", "other")
    monkeypatch.setenv("NIMBLE_ETL_RUN__MAX_DURATION", "3h")
    monkeypatch.setenv("NIMBLE_ETL_SOURCE__STUDIO_IDS", '["a", "b"]')
    monkeypatch.setenv("NIMBLE_ETL_STATE_DIR", "s")
    settings = load_settings(write("warehouse: {path: here}\nrun: {max_duration: 1h, concurrency: 3}\n"))
    assert settings.warehouse.path.name == "other"
    assert settings.run.max_duration == dt.timedelta(hours=3)
    assert settings.run.concurrency == 3  # of the same part, and not named by the environment
    assert settings.source.studio_ids == ("a", "b")
    assert settings.state_dir.name == "s"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NIMBLE_ETL_RUN__CONCURRENCY", "many", "run.concurrency: found 'many'"),
        ("NIMBLE_ETL_RUN__CONCURENCY", "8", "not a setting"),
        ("NIMBLE_ETL_SOURCE__SECRET_ACCESS_KEY", CANARY, "credentials do not belong"),
        ("NIMBLE_ETL_RUN__MAX_DURATION", "soon", "90s, 15m"),
        ("NIMBLE_ETL_SOURCE__STUDIO_IDS", "a,b", '["one", "two"]'),
        ("NIMBLE_ETL_DATASETS", "studios", '["one", "two"]'),
    ],
)
def test_mistake_in_the_environment_names_the_variable_not_a_line(write, monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings(write("run: {concurrency: 3}"))
    assert str(caught.value).startswith(f"environment {name}: ")
    assert expected in str(caught.value)
    assert "line" not in str(caught.value)


def test_switches_of_the_command_line_in_the_environment_are_not_settings(write, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_DEBUG", "1")
    monkeypatch.setenv("NIMBLE_ETL_LOG_LEVEL", "info")
    assert load_settings(write("")) == load_settings(write(""))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "source: {region: eu-west-1, filters: {ownedBy: me}, retry: {timeout: 5m}}\nmarts: {prices: p.csv}\n",
        "datasets:\n- studios\n- {name: v, service: ec2, operation: describe_volumes, key: [volume_id]}\n",
    ],
)
def test_file_alone_means_what_it_means_when_it_is_merged_with_nothing(write, monkeypatch, text):
    """Merging is not even imported where there is nothing to merge."""
    path = write(text)
    alone = load_settings(path)
    monkeypatch.setenv("NIMBLE_ETL_LOG_LEVEL", "info")
    assert load_settings(path) == alone


def test_flags_win_over_the_environment_and_the_file(write, monkeypatch):
    """Whoever types --max-items 10 means it, whatever a profile script exported."""
    monkeypatch.setenv("NIMBLE_ETL_RUN__MAX_ITEMS", "5")
    monkeypatch.setenv("NIMBLE_ETL_SOURCE__STUDIO_IDS", '["x"]')
    monkeypatch.setenv("NIMBLE_ETL_DATASETS", '["studios"]')
    flags = Overrides(max_items=10, studio_ids=["y"], datasets=["streaming_sessions"], max_duration="2h")
    settings = load_settings(write("run: {max_items: 3, concurrency: 2}"), flags)
    assert settings.run.max_items == 10
    assert settings.source.studio_ids == ("y",)
    assert settings.exported == ("streaming_sessions",)
    assert settings.run.max_duration == dt.timedelta(hours=2)
    assert settings.run.concurrency == 2


def test_flags_that_were_not_given_change_nothing(write, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_RUN__MAX_PAGES", "5")
    path = write("source: {filters: {owned_by: me}}\nrun: {max_items: 3}\nstate_dir: x\n")
    assert load_settings(path, Overrides()).model_dump() == load_settings(path).model_dump()


def test_filters_of_the_command_line_are_added_to_those_of_the_file(write):
    settings = load_settings(
        write("source: {filters: {owned_by: me, created_by: you}}"),
        Overrides(filters={"created_by": "her", "session_ids": None}),
    )
    assert settings.source.filters == {"owned_by": "me", "created_by": "her"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (Overrides(max_duration="soon"), "--max-duration: found 'soon'; expected a duration"),
        (Overrides(max_items=-1), "--max-items: found -1; expected at least 1"),
    ],
)
def test_mistake_in_a_flag_names_the_flag_not_a_line(mistake, flags, expected):
    message = mistake("run: {max_items: 3}", flags)
    assert message.startswith(expected)
    assert "line" not in message


def test_schema_of_the_configuration_describes_every_setting():
    """`config schema` prints it; editors complete from it."""
    schema = Settings.model_json_schema()
    assert schema["properties"].keys() == Settings.model_fields.keys()
    assert schema["$defs"]["Run"]["properties"]["max_duration"]["description"]


@pytest.mark.parametrize("setting", ["command: notify --token", "url: check.example/"])
def test_fault_56_keys_of_health_checks_are_not_repeated(mistake, setting):
    said = mistake(f"on_finish: {{{setting}{CANARY}}}\n")

    assert "on_finish" in said
    assert CANARY not in said


def test_flag_selects_datasets_and_forgets_no_definition(write):
    """The catalog shows what is configured, and rules of privacy name it, whatever this invocation exports."""
    path = write("""
datasets:
- studios
- {name: farms, service: deadline, operation: list_farms, key: [farm_id]}
privacy: {rules: {farms: {created_by: hash}}}
""")

    chosen = load_settings(path, Overrides(datasets=["farms", "eulas"]))

    assert [getattr(entry, "name", entry) for entry in chosen.datasets] == ["studios", "farms"]
    assert [getattr(entry, "name", entry) for entry in chosen.exported] == ["farms", "eulas"]
    assert chosen.exported[0].service == "deadline"
    assert content_of(load_settings(path, Overrides(datasets=["studios"]))).datasets["farms"].service == "deadline"
