"""What a command brings along: start-up is most of what a quick one costs."""

import ctypes
import sys
import textwrap

import pytest
from support.programs import run_code


def loaded_by(arguments, names):
    """Return which of some modules are loaded when a command ends."""
    code = (
        "import sys; from etl.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\n"
        f"finally: print('loaded', *({names!r} & sys.modules.keys()), file=sys.__stderr__)"
    )
    done = run_code(code)
    return set(done.stderr.splitlines()[-1].split()[1:])


def test_help_loads_neither_columns_nor_clients():
    heavy = {"pyarrow", "duckdb", "deltalake", "boto3", "botocore", "pydantic", "numpy", "rich.table"}
    assert loaded_by(["--help"], heavy | {"typer"}) == {"typer"}


def test_commands_load_nothing_that_they_do_not_need(tmp_path):
    """Of pandas: pyarrow would load it, to ask of every list whether it is a Series, 0.3 s and 50 MB."""
    config = tmp_path / "config.yaml"
    config.write_text("emulator: {studios: 1, sessions_per_studio: 20}\n")
    of_extras = {"matplotlib", "jinja2", "pyiceberg", "sqlalchemy"}
    always_too_much = {"pandas", "boto3", "pydantic_settings", "rich.progress", *of_extras}
    of_a_night = {"botocore", "urllib3", "starlette", "asyncio", "msgspec", "pyarrow.compute", "pyarrow.dataset"}
    of_tables = {"deltalake", "sqlite3"}

    def loaded(*arguments):
        heavy = {*always_too_much, *of_a_night, *of_tables, "duckdb", "numpy"}
        return loaded_by([*arguments, "--config", str(config)], heavy)

    assert not loaded("run") & always_too_much
    assert loaded("status") == {*of_tables, "duckdb", "numpy"}
    assert loaded("sql", "from etl_runs") == {"duckdb", "numpy"}
    assert not loaded("query", "--list")
    assert not loaded("config", "check") & {*always_too_much, "starlette"}


def run_then(tmp_path, code):
    """Do a small night, then some code in the same process; return how it ended."""
    config = tmp_path / "config.yaml"
    config.write_text("emulator: {studios: 1, sessions_per_studio: 20}\n")
    night = (
        "import sys; from etl.cli import main\n"
        f"sys.argv[1:] = ['run', '--config', {str(config)!r}]\n"
        "try: main()\n"
        "finally:\n"
    )
    return run_code(night + textwrap.indent(textwrap.dedent(code), "    "))


@pytest.mark.skipif(sys.platform != "linux", reason="numpy's wheels bring OpenBLAS by this name on Linux only")
def test_a_run_starts_no_threads_for_linear_algebra(tmp_path):
    """They would spin for 0.1 s of CPU before they fall asleep."""
    done = run_then(
        tmp_path,
        """
        import ctypes, pathlib, numpy
        (library,) = pathlib.Path(numpy.__file__).parents[1].glob('numpy.libs/*openblas*')
        print(ctypes.CDLL(str(library)).scipy_openblas_get_num_threads64_(), file=sys.__stderr__)
        """,
    )
    assert done.stderr.splitlines()[-1] == "1"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has such parts")
def test_threads_of_a_run_share_two_parts_of_the_memory(tmp_path):
    """Each thread would keep what it has freed, 10 MB in all; even those that only try how many may be started."""
    done = run_then(
        tmp_path,
        f"""
        import ctypes
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        file = ctypes.c_void_p(libc.fopen({bytes(tmp_path / "info.xml")!r}, b'w'))
        libc.malloc_info(0, file), libc.fclose(file)
        """,
    )
    assert done.returncode == 0
    assert (tmp_path / "info.xml").read_text().count("<heap nr=") == 2
