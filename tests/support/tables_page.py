"""docs/tables.md, from the dictionary of a catalog that has all ten listings.

`PYTHONPATH=tests python -m support.tables_page` writes it.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etl.emulator import EmbeddedStudio, World
from etl.extract.datasets import builtin_datasets
from support.job import RUN, Job, job_at
from support.studios import studio_of

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
HEAD = """# Tables

Every column of every table, view and mart that the ten Nimble listings fill, as `etl_columns` has it; `make docs`
writes this page. Not repeated: `<table>_history` has the columns of `<table>`, one snapshot after the other, and the
flat views of the schema `bi` those of the tables, with nested values as text and each instant also as `…_utc`.
"""


def everything(directory: Path, studio: EmbeddedStudio) -> Job:
    """Return a job with every listing and everything that follows from it."""
    names = ", ".join(builtin_datasets())
    return job_at(directory, studio, marts=True, rest=f"datasets: [{names}]")


def page(job: Job) -> str:
    """Return the page of what a job has exported."""
    tables = json.loads(job.cli("describe", "--json").stdout)
    return "\n".join([HEAD, *_sections(tables)])


def _sections(tables: dict[str, list[dict]]) -> Iterator[str]:
    for name in sorted(tables):
        if name.startswith("bi.") or name.endswith("_history"):
            continue
        yield f"## {name}\n\n| column | type | unit | meaning | API |\n|---|---|---|---|---|"
        for row in tables[name]:
            meaning = row["meaning"] + (f" One of {row['values']}." if row["values"] else "")
            cells = (row["column"], row["type"], row["unit"] or "", meaning, row["api_path"] or "")
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        yield ""


def main() -> None:
    """Write the page."""
    os.environ["NIMBLE_ETL_PRIVACY__KEY"] = "of this page"
    with (
        tempfile.TemporaryDirectory() as directory,
        studio_of(World(sessions_per_studio=20)) as studio,
    ):
        job = everything(Path(directory), studio)
        ended = job.cli(*RUN)
        assert ended.returncode == 0, ended.stderr
        PAGE.write_text(page(job), encoding="utf-8")


if __name__ == "__main__":
    main()
