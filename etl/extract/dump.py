"""Pages out of saved JSON, as `aws … list-…` prints it.

A dump is one document with the result list, several documents, a bare list, or a record per line; plain, gzip or zstd.
Memory holds one piece of the file, or one record if that is longer, and one page. Records keep their text. Every error
names file and byte.
"""

import datetime as dt
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from botocore.model import Shape
from botocore.paginate import TokenEncoder

from etl.errors import ConfigError, SourceError
from etl.extract.json_window import JsonWindow, Stream
from etl.extract.parsed import as_modeled
from etl.extract.service_model import model_session
from etl.model import Dataset, Member, Operation, Page, key_leaves

STANDARD_INPUT = Path("-")

_PAGE_RECORDS = 1000
_PAGE_CHARACTERS = 8 * 1024 * 1024
_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Dump:
    """Reads the files of one slice: the dataset's records of one account and Region.

    `account_id` and `region` are None if unknown; the first ARN in a record then sets these attributes.
    """

    def __init__(self, dataset: Dataset, operation: Operation, account_id: str | None, region: str | None) -> None:
        self.account_id = account_id
        self.region = region
        self._operation = operation
        pager = operation.pager
        self._is_parsed = pager is not None
        self._is_plain = pager is not None and pager.is_plain
        self._lists = {pager.result} if pager else {operation.result_member, operation.result_key}
        tokens = pager.output_tokens if pager else (operation.token_member, operation.token_key)
        self._tokens = ("NextToken", *tokens)
        self._token: str | None = None
        own_arn = {"arn", f"{dataset.item_name.replace('_', '')}arn"}
        self._arns = [member.api_name for member in operation.record.members if member.api_name.lower() in own_arn]
        known = [path[0] for path, _ in key_leaves(dataset.key, operation.record).values()]
        self._keys = known or [member.api_name for member in operation.record.members]
        self._record_shape = operation.record
        self._told_by_arns: frozenset[str] = frozenset()
        self._renamed: Callable[[Any], Any] | None = None
        if pager is None:
            model = model_session().get_service_model(operation.service).operation_model(operation.name)
            self._renamed = _renaming(model.output_shape.members[operation.result_member].member, operation.record)
        self._expected = _expectation(dataset, pager.result if pager else operation.result_member)

    def pages(self, files: Sequence[Path]) -> Iterator[Page]:
        """Yield all records as pages of up to 1000 records, at least one page.

        The `next_starting_token` of the last page is that of the last document: None if the listing was complete.

        Raises:
            ConfigError: a file is missing, or cannot be opened.
            SourceError: a file is not what the CLI prints.
        """
        for path in files:
            _check_file(path)
        number, size = 1, 0
        texts: list[str] = []
        for path in files:
            for text in self._records(path):
                if len(texts) == _PAGE_RECORDS or size > _PAGE_CHARACTERS:
                    yield self._page(number, texts, TokenEncoder().encode({"dump": number}))
                    number, texts, size = number + 1, [], 0
                texts.append(text)
                size += len(text)
        yield self._page(number, texts, self._token)

    def _page(self, number: int, texts: list[str], next_starting_token: str | None) -> Page:
        return Page(
            number=number,
            body=f"{{{json.dumps(self._operation.result_key)}:[{','.join(texts)}]}}".encode(),
            records=len(texts),
            first=0,
            stop=len(texts),
            next_starting_token=next_starting_token,
            request_id="",
            retries=0,
            received_at=dt.datetime.now(dt.UTC),
        )

    def _records(self, path: Path) -> Iterator[str]:
        name = "standard input" if path == STANDARD_INPUT else str(path)
        with _opened(path) as file:
            stream = _decompressed(file, name, self._expected)
            place = name if stream is file else f"{name}, uncompressed"
            window = JsonWindow(place, stream, f"{self._expected}. Nothing was imported")
            if not window.peek():
                raise window.error("there is nothing in it")
            while first := window.peek():
                if first == "[":
                    self._token = None
                    yield from self._list(window)
                elif first == "{":
                    yield from self._object(window)
                else:
                    raise window.error(f"found {first!r}")

    def _list(self, window: JsonWindow) -> Iterator[str]:
        for number, _ in enumerate(window.entries("[", "]")):
            if not self._is_plain:
                window.demand("{", "a record")
            value, text = window.value()
            if number == 0 and not self._has_key(value):
                # It was printed with a --query that left the key out, or is another listing. A later one is a reject.
                raise window.error(f"this record has {_names(value)}, and nothing of its key {', '.join(self._keys)}")
            yield self._record(window, value, text)

    def _has_key(self, value: Any) -> bool:
        """Tell whether a record has a part of its key, whatever it is called."""
        if self._is_plain:
            return True
        renamed = self._renamed(value) if self._renamed else value
        return any(renamed.get(key) is not None for key in self._keys)

    def _object(self, window: JsonWindow) -> Iterator[str]:
        """Yield the records of a document, or the object itself if it is a record."""
        is_document, members = False, {}
        window.hold()
        for _ in window.entries("{", "}"):
            window.demand('"', "the name of a member")
            name, _ = window.value()
            window.take(":")
            if name in self._lists:
                if is_document:
                    raise window.error(f"the list {name!r} is there a second time")
                window.release()
                is_document = True
                window.demand("[", f"the list {name!r}")
                yield from self._list(window)
            elif name in members:
                raise window.error(f"the member {name!r} is there a second time")
            else:
                members[name], _ = window.value()
        if is_document:
            self._token = self._token_of(members)
            return
        text = window.release()
        if self._is_plain or not self._has_key(members):
            raise window.error(f"this object has {_names(members)}")
        self._token = None
        yield self._record(window, members, text)

    def _record(self, window: JsonWindow, value: Any, text: str) -> str:
        """Return the text of a record, its members named as in pages."""
        if self._is_plain:
            return f'{{"value":{text}}}'
        if self._renamed:
            value = self._renamed(value)
            try:
                text = json.dumps(value, allow_nan=False)
            except ValueError:
                raise window.error("this record has a number that is out of range") from None
        elif self._is_parsed and (modeled := as_modeled(value, self._record_shape)) != value:
            text = json.dumps(modeled)
        for name in self._arns:
            if isinstance(arn := value.get(name), str):
                self._check_origin(window, arn)
        return text

    def _check_origin(self, window: JsonWindow, arn: str) -> None:
        """Take account and Region from an ARN if they are unknown, and refuse an ARN with others.

        What the command states is not compared: resources may be shared by another account. `aws` is no account.

        Source: ARN format, arn:partition:service:region:account:resource. Global resources have no Region.
        """
        _, _, _, region, account_id, _ = [*arn.split(":", 5), *[""] * 6][:6]
        account_id = account_id if re.fullmatch(r"\d{12}", account_id) else ""
        for name, attribute, found, flag in (
            ("account", "account_id", account_id, "--account-id"),
            ("Region", "region", region, "--region"),
        ):
            known = getattr(self, attribute)
            if found and known is None:
                setattr(self, attribute, found)
                self._told_by_arns |= {attribute}
            elif found and found != known and attribute in self._told_by_arns:
                raise window.error(
                    f"the ARN of this record says {name} {found}, others say {known}; one import is of one account and "
                    f"Region. If all of them were listed together, name it with {flag}"
                )

    def _token_of(self, members: Mapping[str, Any]) -> str | None:
        """Return the token of a document as text; None if no page follows."""
        pager = self._operation.pager
        if pager and pager.more_results and members.get(pager.more_results) is False:
            return None
        token = next((members[name] for name in self._tokens if members.get(name)), None)
        if token is None and pager and pager.more_results and members.get(pager.more_results):
            return f"{pager.more_results}: true"  # some services take their token from the last record
        return token if token is None or isinstance(token, str) else json.dumps(token)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        file = os.fdopen(0, "rb", closefd=False) if path == STANDARD_INPUT else path.open("rb")
    except OSError as exc:
        raise _no_dump(path, exc.strerror) from exc
    with file:
        yield file


def _decompressed(file: io.BufferedReader, name: str, expected: str) -> Stream:
    """Return the uncompressed content of a file; its first bytes tell whether it is compressed."""
    try:
        head = file.peek(4)[:4]  # a pipe may give fewer; JSON never begins with the first byte of a codec's mark
    except OSError as exc:
        raise SourceError(f"{name}: cannot be read: {exc.strerror}; {expected}. Save or copy it anew") from exc
    for magic, codec in _CODECS.items():
        if head and head[: len(magic)] == magic[: len(head)]:
            stream: Stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)
            return stream
    return file


def _check_file(path: Path) -> None:
    """Refuse a missing file before any is read. It is not opened, because a named pipe can be opened only once."""
    try:
        is_directory = path != STANDARD_INPUT and stat.S_ISDIR(path.stat().st_mode)
    except OSError as exc:
        raise _no_dump(path, exc.strerror) from exc
    if is_directory:
        raise _no_dump(path, "Is a directory")


def _no_dump(path: Path, why: str | None) -> ConfigError:
    return ConfigError(f"{path}: {why}; expected a file that `aws … > FILE` wrote, or - for standard input")


def _expectation(dataset: Dataset, result: str) -> str:
    """Return the end of every message: what a dump must be."""
    printed = f"aws {dataset.service} {dataset.operation.replace('_', '-')} --output json"
    if result.isidentifier():
        return f"expected what `{printed}` prints: an object with the list {result!r}, or records"
    return f"expected what `{printed} --query '{result.removesuffix('[]')}[]'` prints: records"


def _names(members: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, members)) or "no members"


def _renaming(shape: Shape, member: Member) -> Callable[[Any], Any] | None:
    """Return a function that renames the members of a value, at every depth, as in the bodies of responses.

    The CLI prints the names of the service model. Few services spell them differently in a body: MediaLive's Id is id.
    Returns None if no name differs, so that most records keep their text.
    """
    if member.kind == "structure":
        pairs = list(zip(shape.members.items(), member.members, strict=True))
        names = {name: child.api_name for (name, _), child in pairs if name != child.api_name}
        below = {child.api_name: inner for (_, s), child in pairs if (inner := _renaming(s, child))}
        if not names and not below:
            return None

        def rename(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            wired = {names.get(name, name): inner for name, inner in value.items()}
            return {name: below[name](inner) if name in below else inner for name, inner in wired.items()}

        return rename
    if member.element is None:
        return None
    inner = _renaming(shape.member if member.kind == "list" else shape.value, member.element)
    if inner is None:
        return None
    if member.kind == "list":
        return lambda value: [inner(item) for item in value] if isinstance(value, list) else value
    return lambda value: {k: inner(item) for k, item in value.items()} if isinstance(value, dict) else value
