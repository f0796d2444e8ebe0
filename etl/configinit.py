"""Writes a first config.yaml: the file that comes with the project, for the embedded studio or for AWS."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from etl.errors import ConfigError
from etl.storage.disk import make_directory, put_in_place, remove_files, storage_errors

_FOR_AWS = (
    (r"endpoint_url: embedded {10}.*", "endpoint_url: null              # null: AWS. Or any URL"),
    (r" +studio_ids: .*\n +filters: .*\n", ""),
    (r"datasets: .*", "datasets: []                      # nimble-etl datasets add ec2 describe_volumes --write"),
    (r"slices \(studios\)", "slices"),
    (r"\nemulator: .*\n", ""),
    (r"status: {max_age: null} {11}.*", "status: {max_age: null}           # such as 26h: then `status` exits with 5"),
)
"""What of the project's file is something else for AWS: pattern, and what stands in its place."""
_REGION = r"(  region: )\S+"


def first_text(*, for_aws: bool, region: str | None) -> str:
    """Return the text of a first configuration: with every setting that most people want, and with comments."""
    packaged = Path(str(resources.files("etl"))) / "config.yaml"
    path = packaged if packaged.exists() else packaged.parent.parent / "config.yaml"
    text = path.read_text(encoding="utf-8")
    for pattern, replacement in _FOR_AWS if for_aws else ():
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    return re.sub(_REGION, rf"\g<1>{region}", text, count=1) if region else text


@contextmanager
def new_file(path: Path, text: str) -> Iterator[Path]:
    """Yield a draft of a file beside it, to be changed; at the end it becomes the file. Its directory is made.

    Raises:
        ConfigError: there is such a file already; it stays as it is.
        StorageError: the file cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{path}: there is such a file already; move it away, or name another with --config PATH")
    draft = path.with_name(f".{path.name}.first")
    try:
        with storage_errors(path):
            make_directory(path.parent)
            draft.write_text(text, encoding="utf-8")
        yield draft
        with storage_errors(path):
            put_in_place(draft, path)
    finally:
        remove_files([draft])
