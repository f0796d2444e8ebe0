"""What the documents show: pages, and their blocks, commands and code. Runs the commands too.

The documents are the README, CONTRIBUTING, the CHANGELOG and the pages of docs/.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from support.job import _FORKS, _child, finished

ROOT = Path(__file__).parents[2]

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *sorted(ROOT.glob("docs/*.md")),
    )
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind, page=None):
    """Return the content of the blocks of one kind, of a page or of all."""
    texts = [PAGES[page]] if page else PAGES.values()
    return [content for text in texts for found, content in FENCED.findall(text) if found == kind]


def code(text):
    """Yield what a page shows as code: fenced and indented blocks, and spans within a line."""
    yield from (content for _, content in FENCED.findall(text))
    rest = FENCED.sub("", text)
    yield from re.findall(r"^ {4}(.*)$", rest, re.MULTILINE)
    yield from spans(text)


def spans(text):
    """Yield the code within lines of text."""
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text)))


def commands(text):
    """Yield (command, lines that the page shows after it)."""
    for kind, block in FENCED.findall(text):
        if kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield command, shown


def run(directory, *arguments):
    """Run the command line in a directory, as a process forked from one that has imported all; return how it ended."""
    with tempfile.TemporaryDirectory() as streams:
        output, errors = Path(streams, "output"), Path(streams, "errors")
        process = _FORKS.Process(target=_answer, args=(directory, arguments, output, errors))
        process.start()
        return subprocess.CompletedProcess(arguments, finished(process), output.read_bytes(), errors.read_text())


def _answer(directory, arguments, output, errors):
    os.chdir(directory)
    _child(arguments, {}, output, errors)
