"""Every command of the README runs, and its output looks as the README shows it."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def commands():
    """Yield (command, lines that the README shows after it)."""
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, shown


def shape(line):
    """A line without what differs from day to day: dates, counts, run ids, paths, widths."""
    line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", line)
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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A directory with the project's configuration, where the README's reader would stand."""
    directory = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "config.yaml", directory)
    return directory


def test_every_command_of_the_readme_runs_and_prints_what_the_readme_shows(checkout):
    seen = []
    for command, shown in commands():
        program, *arguments = shlex.split(command)
        assert program == "nimble-etl"
        ended = subprocess.run(
            [sys.executable, "-m", "etl", *arguments], cwd=checkout, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert appears(shown, ended.stdout.splitlines()), f"$ {command}\n{ended.stdout}"
        seen.append(arguments[0])
    assert len(seen) >= 8


def test_the_comparison_with_the_readme_can_fail():
    assert appears(["a 1", "...", "c 3"], ["a 9", "b 2", "c 4"])
    assert not appears(["a 1", "c 3"], ["a 9", "b 2", "c 4"])
    assert not appears(["a 1", "...", "x 3"], ["a 9", "b 2", "c 4"])


def test_the_python_example_runs(checkout):
    if not (checkout / "warehouse").exists():  # the commands are run by another test, which may not have been here
        subprocess.run([sys.executable, "-m", "etl", "run"], cwd=checkout, capture_output=True, check=True)
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    ended = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "STOPPED" in ended.stdout


def test_the_configuration_shown_is_the_one_that_comes_with_the_project():
    """Comments and blank lines apart."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    lines = [
        line for line in (ROOT / "config.yaml").read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    assert shown.splitlines() == lines


def test_every_flag_that_the_readme_names_exists():
    named = set(re.findall(r"`(--[a-z-]+)", README))
    commands = (["run"], ["query"], ["emulator"], ["verify"], ["datasets"], ["datasets", "add"], ["report"], ["import"])
    helps = "".join(
        subprocess.run(
            [sys.executable, "-m", "etl", *words, "--help"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        for words in commands
    )
    assert named - set(re.findall(r"--[a-z-]+", helps)) == set()


def test_every_command_is_in_the_readme():
    names = re.findall(r'^@(?:config_)?app\.command\("(\w+)"', (ROOT / "etl" / "cli.py").read_text(), re.MULTILINE)
    assert len(names) >= 12
    for name in names:
        assert re.search(rf"nimble-etl (?:--log-level warning |config )?{name}\b|`{name}`", README), name


def test_the_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
