"""The files of docs/examples: they are read as their tools read them, and run as far as that needs no such tool.

No builder of images is needed. The steps of the Containerfile run in a directory, with this environment's packages in
place of those that it would download.
"""

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import types
from configparser import RawConfigParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.commands import resolve
from support.documents import PAGES, ROOT

from etl import errors

EXAMPLES = ROOT / "docs/examples"
FINAL = ["1", "2", "5"]
"""Exit codes after which another try would change nothing, or would only repeat the night."""


def instructions(text):
    """Return (instruction, what follows it) of each line of a Containerfile, by the stages that FROM begins."""
    stages = []
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        if line:
            name, rest = line.split(maxsplit=1)
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, rest))
    return stages


BUILD, IMAGE = instructions((EXAMPLES / "Containerfile").read_text())


def of(stage, name):
    return [rest for found, rest in stage if found == name]


def test_stages_begin_with_one_slim_python_of_a_fixed_version():
    bases = {of(stage, "FROM")[0].partition(" ")[0] for stage in (BUILD, IMAGE)}
    assert len(bases) == 1, "a virtual environment needs the Python that made it"
    (tag,) = re.fullmatch(r"docker\.io/library/python:(\S+)", bases.pop()).groups()
    assert re.fullmatch(r"3\.\d+-slim", tag)


def test_image_is_of_a_user_without_rights_and_has_one_volume_and_one_program():
    (user,) = of(IMAGE, "USER")
    assert all(int(number) > 0 for number in user.split(":"))
    (volume,) = of(IMAGE, "VOLUME")
    assert of(IMAGE, "ENTRYPOINT") == ['["nimble-etl"]']
    assert of(IMAGE, "WORKDIR") == [volume]
    environment = dict(pair.split("=", 1) for pair in of(IMAGE, "ENV"))
    for name in ("HOME", "NIMBLE_ETL_STATE_DIR", "NIMBLE_ETL_WAREHOUSE__PATH"):
        assert Path(volume) in (Path(environment[name]), *Path(environment[name]).parents)
    assert any(f"chown {user} {volume}" in step for step in of(IMAGE, "RUN"))


def test_only_packages_of_the_lock_are_installed():
    (locked, built) = (step for step in of(BUILD, "RUN") if "pip install" in step)
    assert "--require-hashes --requirement requirements.lock" in locked
    assert "--no-index --no-deps" in built


def test_every_source_of_a_copy_exists():
    copied = [words.split()[:-1] for words in of(BUILD, "COPY")]
    assert len(copied) >= 3
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists(), source


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A directory that has what the steps of the Containerfile make, and a function that names places in it."""
    root = tmp_path_factory.mktemp("image")

    def inside(text):
        return re.sub(r"(?<![\w.])/(?=opt/|data\b|source\b)", f"{root}/", text)

    (source,) = (Path(inside(place)) for place in of(BUILD, "WORKDIR"))
    source.mkdir()
    for name, rest in BUILD:
        if name == "COPY":
            for copied in rest.split()[:-1]:
                copy = shutil.copytree if (ROOT / copied).is_dir() else shutil.copy
                copy(ROOT / copied, source / copied)
        if name == "RUN" and "requirements.lock" in rest:
            packages = Path(inside(f"/opt/nimble-etl/lib/python{sysconfig.get_python_version()}/site-packages"))
            (packages / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        elif name == "RUN":
            step = inside(rest).replace("python -m venv", f"{shlex.quote(sys.executable)} -m venv --without-pip", 1)
            step = step.replace(f"{root}/opt/nimble-etl/bin/pip", f"{root}/opt/nimble-etl/bin/python -m pip")
            subprocess.run(["/bin/sh", "-c", step], cwd=source, check=True, capture_output=True)
    Path(inside(of(IMAGE, "VOLUME")[0])).mkdir()
    shutil.rmtree(source)
    return root, inside


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_night_in_the_image_writes_into_its_volume_only(image):
    """A root file system that is read-only would not let it write anywhere else."""
    root, inside = image
    (root / "config").mkdir()
    (root / "config/config.yaml").write_text("emulator: {studios: 1, sessions_per_studio: 20}\n")
    environment = dict(pair.split("=", 1) for pair in map(inside, of(IMAGE, "ENV")))
    before = files(root)
    (program,) = ast.literal_eval(of(IMAGE, "ENTRYPOINT")[0])
    command = [program, "run", "--config", str(root / "config/config.yaml")]
    found = shutil.which(program, path=environment["PATH"])
    assert Path(found).is_relative_to(root), "the wheel's program, not that of this environment"
    ended = subprocess.run(
        [found, *command[1:]], cwd=inside(of(IMAGE, "WORKDIR")[0]), env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "20 records" in ended.stdout or "21 records" in ended.stdout
    new = files(root) - before
    assert "data/warehouse/warehouse.duckdb" in new
    assert {name.split("/")[0] for name in new} == {"data"}


@pytest.fixture(scope="module")
def cron_job():
    volume, job = YAML(typ="safe").load_all((EXAMPLES / "cronjob.yaml").read_text())
    assert (volume["kind"], job["kind"]) == ("PersistentVolumeClaim", "CronJob")
    return volume, job


def test_cron_job_runs_one_at_a_time_and_tries_again_only_where_that_can_help(cron_job):
    spec = cron_job[1]["spec"]
    assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC")
    job = spec["jobTemplate"]["spec"]
    failing, *others = job["podFailurePolicy"]["rules"]
    assert failing["action"] == "FailJob"
    codes = failing["onExitCodes"]
    assert (codes["operator"], [str(code) for code in codes["values"]]) == ("In", FINAL)
    assert [rule["action"] for rule in others] == ["Ignore"]
    assert job["backoffLimit"] >= 3
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "Kubernetes refuses podFailurePolicy otherwise"
    assert codes["containerName"] == pod["containers"][0]["name"]


def test_cron_job_fits_the_image(cron_job):
    volume, job = cron_job
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert resolve(container["args"]) == ("run",)
    assert "command" not in container, "the image has an entry point"
    assert not container["image"].endswith(":latest")
    assert ":" in container["image"].rpartition("/")[2]
    (user,) = of(IMAGE, "USER")
    assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    writable = [mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")]
    assert writable == of(IMAGE, "VOLUME")
    assert mounts["config"]["mountPath"] in container["args"][-1]
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert claims == [volume["metadata"]["name"]]


def unit(name):
    parser = RawConfigParser(strict=True)
    parser.optionxform = str
    parser.read_string((EXAMPLES / name).read_text())
    return parser


def test_units_of_systemd_try_again_only_where_that_can_help():
    service = unit("nimble-etl.service")["Service"]
    program, *words = service["ExecStart"].split()
    assert Path(program).name == "nimble-etl"
    assert resolve(words) == ("run",)
    assert service["RestartPreventExitStatus"].split() == FINAL
    assert (service["Type"], service["Restart"]) == ("oneshot", "on-failure")
    assert unit("nimble-etl.timer")["Timer"]["OnCalendar"].endswith("UTC")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here to verify its units")
def test_systemd_takes_the_units(tmp_path):
    for name in ("nimble-etl.service", "nimble-etl.timer"):
        text = (EXAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/nimble-etl/.venv/bin/nimble-etl", "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.iterdir()], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")


def test_crontab_begins_with_the_line_of_the_readme():
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if not line.startswith("#")]
    for page in ("README.md", "docs/operation.md"):
        assert f"    {lines[0]}\n" in PAGES[page]
    for line in lines:
        assert re.match(r"\d+ \d+ \* \* [*0]  cd /srv/nimble-etl && ", line)
        calls = re.findall(r"\.venv/bin/nimble-etl ([^>;&|]+)", line)
        assert calls
        for call in calls:
            resolve(call.split())


@pytest.mark.parametrize(("exit_code", "mails"), [(0, ""), (5, "too old\n")])
def test_crontab_mails_in_the_morning_only_if_something_is_wrong(exit_code, mails, tmp_path):
    (line,) = re.findall(r"^30 8 \* \* \*  (.*)$", (EXAMPLES / "crontab").read_text(), re.MULTILINE)
    program = tmp_path / ".venv/bin/nimble-etl"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho too old\nexit {exit_code}\n")
    program.chmod(0o755)
    script = line.replace("/srv/nimble-etl", shlex.quote(str(tmp_path)))
    assert subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout == mails


def as_it_is(*functions, **_options):
    """Stand for a decorator, with or without options."""
    return functions[0] if functions else lambda function: function


def scheduler(name, *exceptions, **members):
    """Return a module in the place of a scheduler's; its exceptions keep what they are told."""
    module = types.ModuleType(name)
    for exception in exceptions:
        setattr(
            module,
            exception,
            type(exception, (Exception,), {"__init__": lambda self, *_, **told: vars(self).update(told)}),
        )
    vars(module).update(members)
    return module


def outcome(function, exit_code, monkeypatch):
    """Return what a scheduler is told if nimble-etl ends with an exit code, and its name."""
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, exit_code))
    try:
        function()
    except Exception as problem:  # noqa: BLE001 - of any scheduler
        return problem, type(problem).__name__
    return None, None


ENDS = pytest.mark.parametrize("exit_code", [0, 1, 2, 3, 4, 5, 137])


@ENDS
def test_dagster_tries_again_only_where_that_can_help(exit_code, monkeypatch):
    members = {"op": as_it_is, "job": as_it_is, "Definitions": dict, "ScheduleDefinition": dict}
    monkeypatch.setitem(sys.modules, "dagster", scheduler("dagster", "Failure", "RetryRequested", **members))
    loaded = runpy.run_path(str(EXAMPLES / "dagster_job.py"))
    told, name = outcome(loaded["run"], exit_code, monkeypatch)
    assert name == (None if not exit_code else "Failure" if str(exit_code) in FINAL else "RetryRequested")
    if name == "Failure":
        assert told.allow_retries is False
    if name == "RetryRequested":
        assert told.max_retries >= 3


@ENDS
def test_airflow_tries_again_only_where_that_can_help(exit_code, monkeypatch):
    tasks = []

    def task(**options):
        assert options["retries"] >= 3
        return lambda function: tasks.append(function) or as_it_is

    def dag(**options):
        assert (options["catchup"], options["max_active_runs"], options["schedule"]) == (False, 1, "15 2 * * *")
        return as_it_is()

    for name, module in {
        "airflow": scheduler("airflow"),
        "airflow.sdk": scheduler("airflow.sdk", dag=dag, task=task),
        "airflow.sdk.exceptions": scheduler("airflow.sdk.exceptions", "AirflowFailException"),
        "pendulum": scheduler("pendulum", datetime=as_it_is, duration=dict),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(EXAMPLES / "airflow_dag.py"))
    (run,) = tasks
    _, name = outcome(run, exit_code, monkeypatch)
    assert name == (
        None if not exit_code else "AirflowFailException" if str(exit_code) in FINAL else "CalledProcessError"
    )


@pytest.mark.parametrize(("module", "example"), [("airflow.sdk", "airflow_dag.py"), ("dagster", "dagster_job.py")])
def test_scheduler_takes_its_example(module, example):
    pytest.importorskip(module, reason="this scheduler is not installed; the tests above need none")
    assert runpy.run_path(str(EXAMPLES / example))["nimble_etl"]


def test_final_exit_codes_are_those_of_the_errors():
    """What no condition names is tried again: exit codes that an error of this package has, and that are resumable."""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EtlError)]
    assert {kind.exit_code for kind in classes} - set(map(int, FINAL)) == {3, 4}


def test_every_example_is_explained():
    named = set(re.findall(r"\(examples/([\w.-]+)\)", PAGES["docs/operation.md"]))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.is_file()}
