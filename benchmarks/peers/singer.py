"""Peer 3: the tap, piped into the target."""

import json
import subprocess
import sys
from pathlib import Path

here, out = Path(__file__).parent, Path(sys.argv[1])
config = out / "config.json"
config.write_text(json.dumps({"out": str(out)}))
with subprocess.Popen([sys.executable, here / "singer_tap.py"], stdout=subprocess.PIPE) as tap:
    target = subprocess.run(
        [sys.executable, here / "singer_target.py", "--config", config],
        stdin=tap.stdout, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
if tap.returncode:
    sys.exit(tap.returncode)
