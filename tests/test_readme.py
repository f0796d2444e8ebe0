"""What the documents say is true: commands run and print what is shown; commands, flags, settings and links exist.

The documents are the README, CONTRIBUTING, the CHANGELOG and the pages of docs/. Commands and flags are asked of the
command line itself, settings of their model.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys

import duckdb
import pytest
from ruamel.yaml import YAML
from support.commands import CLI, COMMANDS, options, resolve
from support.documents import FENCED, PAGES, ROOT, blocks, code, commands, run, spans

from etl.cli.options import shard_of
from etl.config import Settings
from etl.extract.datasets import builtin_datasets
from etl.model import CATALOG_NAME, Shard

README = PAGES["README.md"]
OPERATION = PAGES["docs/operation.md"]
COSTS = "docs/marts-and-report.md"
TUTORIAL = "docs/tutorial.md"
LINKED = {
    **PAGES,
    **{name: (ROOT / name).read_text(encoding="utf-8") for name in ("benchmarks/README.md", "tests/mutants/README.md")},
}
"""Pages whose links are followed."""

KINDS = {"console", "yaml", "python", "json"}
"""Of blocks: each has a test here."""


def shape(line):
    """A line without what differs from day to day: dates, counts, run ids, paths, widths."""
    line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{9}", "RUN", line)
    line = re.sub(r"\S*/warehouse/", ".../warehouse/", line)
    line = re.sub(r"g\d\w*\.\w+", "INSTANCE", line)
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip()


def appears(shown, printed):
    """Whether the output begins with the shown lines; `...` stands for any lines, or for the rest of one."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(shape(line)).replace(r"\.\.\.", ".*") + r"\n"
        for line in shown
    )
    output = "".join(f"{shape(line)}\n" for line in printed if line.strip())
    return re.match(pattern, output) is not None


def calls(text):
    """Yield the words after `nimble-etl` wherever a page shows a call as code."""
    for shown in code(text):
        for found in re.findall(r"(?:^|[\s/])nimble-etl((?: +[^\s;>|&`,]+)+)", shown, re.MULTILINE):
            yield found.split()


def anchors(text):
    """Return the anchors of a page, as GitHub makes them of its headings."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken_links(pages):
    """Yield a sentence for each relative link that leads nowhere."""
    for name, text in pages.items():
        prose = re.sub(r"`[^`]*`", "", FENCED.sub("", text))
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            place, _, anchor = link.partition("#")
            target = (ROOT / name).parent / place if place else ROOT / name
            if not target.exists():
                yield f"{name}: {link}: there is no such file"
            elif anchor and anchor not in anchors(
                pages.get(name if not place else "") or target.read_text(encoding="utf-8")
            ):
                yield f"{name}: {link}: there is no such heading"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A directory with the project's configuration, where a reader would stand."""
    directory = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "config.yaml", directory)
    return directory


STANDS_FOR = {
    "SESSION": "select session_id from streaming_session_changes where change = 'changed' order by all limit 1",
    "RUN": "select max(run_id) from etl_runs",
}
"""Words in commands for what differs from one warehouse to the next, and the question that finds it."""


def with_prices(settings, checkout):
    """Write the price table that a page shows, and return the settings with what the page says about it."""
    rows = re.findall(r"^ {4}(item,.*|(?:instance|volume)_\w+,.*)$", PAGES[COSTS], re.MULTILINE)
    (checkout / "prices.csv").write_text("\n".join(rows))
    (line,) = (block for block in blocks("yaml", COSTS) if "prices:" in block)
    changed = re.sub(r"^marts: .*\n", lambda _: line, settings, flags=re.MULTILINE)
    assert len(rows) > 5
    assert changed != settings
    return changed


def run_shown(checkout, arguments):
    """Run a command as a page shows it, with its placeholders filled in; `> FILE` takes its output."""
    words = list(arguments)
    for place, word in enumerate(words):
        if question := STANDS_FOR.get(placeholder := word.rpartition("=")[2]):
            with duckdb.connect(checkout / "warehouse" / CATALOG_NAME, read_only=True) as catalog:
                ((value,),) = catalog.execute(question).fetchall()
            words[place] = word.replace(placeholder, value)
    if ">" not in words:
        return run(checkout, *words)
    *words, _, name = words
    ended = run(checkout, *words)
    (checkout / name).write_bytes(ended.stdout)
    assert ended.stdout, f"{name} would be empty"
    ended.stdout = b""
    return ended


def run_all(directory, page):
    """Run every command of a page, and compare what it prints with what is shown.

    A command must end with 0, unless the page shows its exit code: `; echo $?`.
    """
    for command, shown in commands(PAGES[page]):
        call, says_code, _ = command.partition("; echo $?")
        program, *arguments = shlex.split(call)
        assert program == "nimble-etl"
        ended = run_shown(directory, arguments)
        assert says_code or ended.returncode == 0, f"{page}: $ {command}\n{ended.stderr}"
        printed = ended.stdout.decode() + (f"{ended.returncode}\n" if says_code else "")
        assert appears(shown, printed.splitlines()), f"{page}: $ {command}\n{printed}"


RUNNABLE = [page for page, text in PAGES.items() if list(commands(text))]


@pytest.fixture(scope="module")
def demonstrated(checkout):
    """The checkout after the README's commands: its demonstration makes the warehouse that the others ask."""
    run_all(checkout, "README.md")
    return checkout


def test_the_commands_of_the_readme_run_and_print_what_it_shows(demonstrated):
    assert (demonstrated / "report.html").exists()


@pytest.mark.parametrize("page", [page for page in RUNNABLE if page not in {"README.md", TUTORIAL}])
def test_the_commands_of_a_page_run_and_print_what_it_shows(demonstrated, page):
    config = demonstrated / "config.yaml"
    settings = config.read_text()
    config.write_text(with_prices(settings, demonstrated) if page == COSTS else settings)
    run_all(demonstrated, page)
    config.write_text(settings)


def test_there_are_commands_to_run():
    seen = [resolve(shlex.split(command)[1:]) for page in RUNNABLE for command, _ in commands(PAGES[page])]
    assert len(seen) >= 80
    assert {("run",), ("status",), ("verify",), ("replay",), ("check",), ("report",), ("datasets", "add")} <= set(seen)


def test_the_tutorial_works_in_an_empty_directory(tmp_path):
    run_all(tmp_path, TUTORIAL)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.yaml",
        "report.html",
        "sessions.parquet",
        "storage.csv",
    }
    assert len(re.findall(r"^## ", PAGES[TUTORIAL], re.MULTILINE)) == 3


def test_there_are_forty_tasks_of_three_users_each_with_what_does_it():
    """A task is a heading with a block that another test here runs."""
    page = PAGES["docs/tasks.md"]
    users = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [len(re.findall(r"^### ", user, re.MULTILINE)) >= 12 for user in users] == [True] * 3
    tasks = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert len(tasks) >= 40
    for task in tasks:
        assert FENCED.search(task), task
    assert len({task.splitlines()[0] for task in tasks}) == len(tasks)


def test_the_comparison_with_what_is_shown_can_fail():
    assert appears(["a 1", "...", "c 3"], ["a 9", "b 2", "c 4"])
    assert not appears(["a 1", "c 3"], ["a 9", "b 2", "c 4"])
    assert not appears(["a 1", "...", "x 3"], ["a 9", "b 2", "c 4"])


def test_every_block_is_of_a_kind_that_is_tested():
    """A command in a block of another kind would be run by nobody."""
    assert {kind for text in PAGES.values() for kind, _ in FENCED.findall(text)} == KINDS


@pytest.mark.parametrize("program", [program for program in blocks("python") if "etl.spark" not in program])
def test_a_python_example_runs(checkout, program):
    """Those for Spark are run by tests/spark."""
    program = program.replace("/srv/nimble-etl", str(checkout))
    if not (checkout / "warehouse").exists():  # the commands are run by another test, which may not have been here
        assert run(checkout, "run").returncode == 0
    if "iceberg" in program and not (checkout / "iceberg").exists():
        (checkout / "iceberg").mkdir()
        (settings,) = blocks("yaml", "docs/iceberg.md")
        both = (checkout / "config.yaml").read_text().replace("\niceberg: {", "\n#") + settings
        (checkout / "iceberg.yaml").write_text(both.replace("/srv/nimble-etl", str(checkout)))
        assert run(checkout, "catalog", "--config", "iceberg.yaml").returncode == 0
    ended = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "STOPPED" in ended.stdout


def test_the_configuration_shown_is_the_one_that_comes_with_the_project():
    """Comments and blank lines apart."""
    (shown,) = blocks("yaml", "README.md")
    lines = [
        line for line in (ROOT / "config.yaml").read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    assert shown.splitlines() == lines


@pytest.mark.parametrize("settings", blocks("yaml"))
def test_settings_that_are_shown_are_valid_and_have_an_effect(settings, tmp_path):
    (tmp_path / "none.yaml").write_text("")
    (tmp_path / "shown.yaml").write_text(settings)
    printed = [run(tmp_path, "config", "show", "--config", name) for name in ("none.yaml", "shown.yaml")]
    assert [ended.returncode for ended in printed] == [0, 0], printed[1].stderr
    is_default = settings in blocks("yaml", "README.md")
    assert is_default or printed[0].stdout != printed[1].stdout


def test_every_setting_that_is_named_exists():
    """Those of `bi` apart: the schema of the flat views has the same name."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items() if name != "bi"}
    named = {
        (section, key)
        for text in PAGES.values()
        for span in spans(text)
        for section, key in re.findall(r"^(\w+)\.(\w+)", span)
        if section in sections and f"{section}.{key}" not in (CATALOG_NAME, "report.html")
    }
    assert len(named) >= 12
    for section, key in named:
        assert key in sections[section].model_fields, f"{section}.{key}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_flag_that_is_called_exists(page):
    for words in calls(PAGES[page]):
        resolve(words)


def test_every_flag_that_is_named_exists():
    named = {flag for text in PAGES.values() for flag in re.findall(r"`(--[a-z-]+)", text)}
    assert len(named) >= 30
    assert named - set().union(*map(options, COMMANDS.values()), options(CLI)) == set()


def test_every_command_is_documented():
    called = {resolve(words) for text in PAGES.values() for words in calls(text)}
    assert len(COMMANDS) >= 15
    assert COMMANDS.keys() - called == set()


def test_every_flag_of_every_command_is_documented():
    shown = {word for text in PAGES.values() for span in code(text) for word in re.findall(r"--[a-z-]+", span)}
    for path, command in COMMANDS.items():
        flags = {parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("--")}
        assert flags - shown == set(), path


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("walk", "no command 'walk'"),
        ("config edit", "no command 'edit'"),
        ("run --quick", "no flag --quick"),
        ("query idle_sessions --days 3", "no flag --days"),
        ("--loud run", "no command '--loud'"),
    ],
)
def test_a_call_of_what_does_not_exist_is_found(words, problem):
    with pytest.raises(AssertionError, match=re.escape(problem)):
        resolve(words.split())


def test_calls_are_found_wherever_a_page_shows_code():
    text = (
        "x `nimble-etl verify` y\n\n    nimble-etl import a.json --region b\n\n```ini\nStart=/a/nimble-etl run\n```\n"
    )
    assert sorted(map(resolve, calls(text))) == [("import",), ("run",), ("verify",)]


def test_children_of_an_array_are_all_the_shards_of_a_night(tmp_path):
    """The command is what AWS Batch would start, with its parameter and the environment of each child."""
    (command,) = re.findall(r'"command": (\[.*?\]),$', OPERATION, re.MULTILINE | re.DOTALL)
    program = tmp_path / "nimble-etl"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    words = [{"Ref::night": "2026-11-23"}.get(word, word) for word in json.loads(command)]
    called = [
        subprocess.run(
            words,
            env={"PATH": f"{tmp_path}:/bin", "AWS_BATCH_JOB_ARRAY_INDEX": index, "AWS_BATCH_JOB_ARRAY_SIZE": "3"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for index in ("0", "1", "2")
    ]
    assert {resolve(call) for call in called} == {("run",)}
    assert [shard_of(*call[-2:]) for call in called] == [Shard(1, 3), Shard(2, 3), Shard(3, 3)]
    (retries,) = re.findall(r'"retryStrategy": (\{.*?\})$', OPERATION, re.MULTILINE | re.DOTALL)
    assert {one["onExitCode"] for one in json.loads(retries)["evaluateOnExit"]} == {"1", "2", "5"}


def test_state_machine_runs_each_shard_of_its_input():
    (shown,) = re.findall(r'^ {4}(\{\n +"StartAt": "Night"(?:.*\n)+? {4}\})$', OPERATION, re.MULTILINE)
    (night,) = json.loads(shown)["States"].values()
    task = night["ItemProcessor"]["States"]["Shard"]
    (override,) = task["Parameters"]["Overrides"]["ContainerOverrides"]
    (example,) = (json.loads(span) for span in spans(OPERATION) if span.startswith('{"night"'))
    assert night["ItemsPath"] == "$.shards"
    assert night["ItemSelector"] == {"night.$": "$.night", "shard.$": "$$.Map.Item.Value"}
    for number, shard in enumerate(example["shards"], start=1):
        values = {"$.night": example["night"], "$.shard": shard}
        words = re.fullmatch(r"States\.Array\((.*)\)", override["Command.$"]).group(1).split(", ")
        program, *call = [values.get(word, word.strip("'")) for word in words]
        assert program == "nimble-etl"
        assert resolve(call) == ("run",)
        assert shard_of(*call[-2:]) == Shard(number, len(example["shards"]))


def test_the_make_targets_of_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for text in PAGES.values() for span in code(text) for target in re.findall(r"^make ([a-z][a-z-]*)", span)
    }
    assert len(named) >= 10
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_relative_link_leads_somewhere():
    assert list(broken_links(LINKED)) == []


@pytest.mark.parametrize(
    "link", ["docs/nowhere.md", "docs/bi.md#nowhere", "#nowhere", "docs/design.md#the-staged-commits"]
)
def test_a_link_that_leads_nowhere_is_found(link):
    assert len(list(broken_links({"README.md": f"# A page\n[see]({link})"}))) == 1


def test_anchors_are_those_of_github():
    text = "# Marts, checks & `a_b.sql`\n## One\n## One\n```console\n# two\n```\n## [A link](x.md) / here"
    assert anchors(text) == {"marts-checks--a_bsql", "one", "one-1", "a-link--here"}


def test_files_that_are_named_exist():
    named = {
        name
        for text in PAGES.values()
        for span in spans(text)
        for name in re.findall(r"^(?:sql|tests|docs|benchmarks)/[\w./-]+", span)
    }
    assert len(named) >= 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_maps_of_the_house_name_the_same_rooms():
    rooms = [set(re.findall(r"^ {6,8}(\w+)/  ", text, re.MULTILINE)) for text in (README, PAGES["docs/design.md"])]
    assert len(rooms[0]) >= 10
    assert rooms[0] <= rooms[1]


@pytest.mark.parametrize("page", ["README.md", "docs/design.md"])
def test_every_room_of_the_package_is_on_the_maps(page):
    (shown,) = re.findall(r"^ {4}etl/\n((?: {4,}.*\n)+)", PAGES[page], re.MULTILINE)
    rooms = {path.parent.name for path in (ROOT / "etl").glob("*/__init__.py")}
    assert len(rooms) >= 5
    assert rooms - set(re.findall(r"(\w+)/", shown)) == set()


def test_the_policy_allows_what_the_configured_datasets_ask_for():
    trust, policy = map(json.loads, blocks("json"))
    (trusted,) = trust["Statement"]
    assert trusted["Action"] == "sts:AssumeRole"
    shown = next(text for text in blocks("yaml") if "external_id" in text)
    account = YAML(typ="safe").load(shown)["source"]["accounts"][0]
    assert trusted["Condition"] == {"StringEquals": {"sts:ExternalId": account["external_id"]}}
    (statement,) = policy["Statement"]
    datasets = [builtin_datasets()[name] for name in YAML(typ="safe").load(ROOT / "config.yaml")["datasets"]]
    actions = {
        f"{dataset.service}:{''.join(word.capitalize() for word in dataset.operation.split('_'))}"
        for dataset in datasets
    }
    assert set(statement["Action"]) == actions
    assert (policy["Version"], statement["Effect"], statement["Resource"]) == ("2012-10-17", "Allow", "*")


@pytest.mark.parametrize(("exit_code", "tries"), [(0, 1), (1, 1), (2, 1), (5, 1), (3, 3), (4, 3), (137, 3)])
@pytest.mark.parametrize("page", ["README.md", "docs/operation.md"])
def test_the_cron_line_tries_again_only_where_that_can_help(page, exit_code, tries, tmp_path):
    (line,) = re.findall(r"^ {4}15 2 \* \* \*  (.*)$", PAGES[page], re.MULTILINE)
    program = tmp_path / ".venv/bin/nimble-etl"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho tried\nexit {exit_code}\n")
    program.chmod(0o755)
    script = f"sleep() {{ :; }}; {line.replace('/srv/nimble-etl', shlex.quote(str(tmp_path)))}"
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "run.log").read_text() == "tried\n" * tries
