"""`python -m torture` as an operator starts it."""

import os
import subprocess
import sys
from pathlib import Path


def torture(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end with further variables in its environment."""
    return subprocess.run(
        [sys.executable, "-m", "torture", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
