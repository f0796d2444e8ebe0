"""Python code in a process of its own, which sees what tests see."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]


def start_code(
    code: str, *arguments: Any, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen:
    """Start Python code that may import `etl` and `support`; it talks through pipes, in text."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (_TESTS, _TESTS.parent))), **(environment or {})},
        **{"stdout": subprocess.PIPE, "text": True, **options},
    )


def run_code(code: str, *arguments: Any) -> subprocess.CompletedProcess:
    """Run such code to its end."""
    process = start_code(code, *arguments, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
