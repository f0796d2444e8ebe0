"""What a worker of `python -m torture` does: one schedule or one hostile case, in a directory of its own."""

import logging
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from torture.judge import Template, case
from torture.play import READERS, Tally, ViolationError, play
from torture.schedule import Schedule

READ_EVERY = 3
"""Every third schedule has readers; the others can vacuum without grace."""

Played = tuple[Tally | None, str, str]
"""What was done; or None, the directory that is kept, and what is broken."""


def play_seed(parent: Path | None, name: str, *, random_kills: bool) -> Played:
    """Play one schedule in a directory that is kept only if a promise is broken."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{name}-", dir=parent))
    told: list[str] = []
    try:
        tally = play(
            Schedule.make(int(name)),
            directory,
            readers=readers_of(int(name)),
            random_kills=random_kills,
            tell=told.append,
        )
    except ViolationError as exc:
        moments = [line for line in told if line.startswith("killed")]
        return None, str(directory), "\n".join([str(exc), *moments])
    shutil.rmtree(directory)
    return tally, "", ""


def judge_one(parent: Path | None, source: Template, name: str) -> Played:
    """Judge one hostile case in a directory that is kept only if a promise is broken; its `log` has what jobs say."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{name}-", dir=parent))
    log = logging.FileHandler(directory / "log")
    logging.getLogger().addHandler(log)
    try:
        codes = case(name, directory, source)
    except ViolationError as exc:
        return None, str(directory), str(exc)
    except Exception:  # noqa: BLE001  an error that is no sentence is a broken promise too
        return None, str(directory), f"error: {traceback.format_exc()}"
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    shutil.rmtree(directory)
    return Tally(cases=Counter([name.partition("-")[0]]), exits=Counter(map(str, codes))), "", ""


def readers_of(seed: int) -> tuple[tuple[str, ...], ...]:
    """Return the readers of the schedule of a seed."""
    return READERS if seed % READ_EVERY == 0 else ()
