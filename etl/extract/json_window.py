"""A JSON file of any size, read through a window of text.

The invariant: the window holds everything from the held place, or else from the current place, to the end of the last
piece that was read, and `_behind_bytes` counts the bytes before it. Every place is an index into the window; only
`_read_on` moves the window, and it moves all places with it. Otherwise records would lose text, and messages would name
wrong bytes. A value is complete only if the window goes on behind it, or if the file ends there.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from etl.errors import SourceError
from etl.extract.raw import refuse_constant

_PIECE_BYTES = 1024 * 1024
_MOST_CHARACTERS = 16 * 1024 * 1024
"""No response of AWS is longer, so no record is. A longer value is something else, and must not fill the memory."""

_LONGEST_TOKEN = len(r"\ud83d\ude00")
"""The longest token, except strings, that the end of a piece may cut. The decoder names its first character."""

# PowerShell redirects output as UTF-16, or as UTF-8 that begins with a byte order mark.
_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_constant=refuse_constant)


class Stream(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class JsonWindow:
    """Reads one file, value by value. `name` begins every message, `expected` ends it."""

    def __init__(self, name: str, stream: Stream, expected: str) -> None:
        self._name = name
        self._stream = stream
        self._expected = expected
        self._behind_bytes = 0  # the size of the file before the window
        self._text = ""
        self._place = 0
        self._fault = 0  # where the value begins that was looked at last; errors name it
        self._held: int | None = None
        self._encoding = "utf-8"
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_at_end = False

    def peek(self) -> str:
        """Return the next character that is not white space; an empty string at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._place = self._fault = match.end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def demand(self, expected: str, what: str) -> str:
        """Return the next character, which must be one of `expected`."""
        found = self.peek()
        if not found:
            raise self.error(f"the file ends here, where {what} belongs; it was cut off")
        if found not in expected:
            raise self.error(f"found {found!r} where {what} belongs")
        return found

    def take(self, expected: str) -> str:
        """Step over the next character, which must be one of `expected`."""
        found = self.demand(expected, " or ".join(expected))
        self._place += 1
        return found

    def entries(self, opening: str, closing: str) -> Iterator[None]:
        """Step into a list or an object, and stop before each entry, which the caller reads."""
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        while True:
            yield
            if self.take(f",{closing}") == closing:
                return

    def value(self) -> tuple[Any, str]:
        """Return the next value and its text."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as exc:
                if not (self._may_go_on(exc) and self._read_on()):
                    raise self._unreadable(exc) from exc
            else:
                # A number may be cut by the end of the piece: of 1e+, the decoder takes the 1 for the number.
                if end + len("e+") < len(self._text) or not self._read_on():
                    text = self._text[self._place : end]
                    self._place = end
                    return found, text

    def hold(self) -> None:
        """Keep the text from here on until `release`."""
        self.peek()
        self._held = self._place

    def release(self) -> str:
        """Return the held text up to here. From now on, errors name its beginning."""
        assert self._held is not None
        held = self._text[self._held : self._place]
        self._fault, self._held = self._held, None
        return held

    def error(self, why: str, place: int | None = None, further_bytes: int = 0) -> SourceError:
        """Return the error that names a byte of the file: at `place`, or else where the last value begins."""
        offset = self._offset(self._fault if place is None else place) + further_bytes
        return SourceError(f"{self._name}, byte {offset}: {why}; {self._expected}")

    def _offset(self, place: int) -> int:
        return self._behind_bytes + len(self._text[:place].encode(self._encoding))

    def _may_go_on(self, exc: Exception) -> bool:
        """Tell whether more text could complete a broken value."""
        if not isinstance(exc, json.JSONDecodeError):
            return False
        return exc.msg.startswith("Unterminated string") or exc.pos > len(self._text) - _LONGEST_TOKEN

    def _unreadable(self, exc: Exception) -> SourceError:
        if not isinstance(exc, json.JSONDecodeError):
            return self.error("nested too deep" if isinstance(exc, RecursionError) else f"not JSON: {exc}")
        if exc.msg.startswith("Unterminated string") or exc.pos >= len(self._text.rstrip()):
            return self.error("the file ends here, in the midst of a value; it was cut off", len(self._text))
        return self.error(f"not JSON: {exc.msg}", exc.pos)

    def _read_on(self) -> bool:
        """Drop the text that was read, and append the next piece; return False at the end of the file."""
        if self._is_at_end:
            return False
        keep = self._place if self._held is None else self._held
        if len(self._text) - keep >= _MOST_CHARACTERS:
            raise self.error(f"the value that begins here has more than {_MOST_CHARACTERS >> 20} MiB", keep)
        self._behind_bytes = self._offset(keep)
        self._text = self._text[keep:]
        self._place -= keep
        self._fault -= keep
        self._held = None if self._held is None else 0
        self._text += self._next_text(max(_PIECE_BYTES, len(self._text)))
        return True

    def _next_text(self, size: int) -> str:
        try:
            piece = self._stream.read(size)
        except (OSError, pa.ArrowException) as exc:
            raise self.error(f"cannot be read any further: {exc}", len(self._text)) from exc
        self._is_at_end = not piece
        if self._decoder is None:
            mark = next((mark for mark in _ENCODINGS if piece.startswith(mark)), b"")
            self._encoding = _ENCODINGS.get(mark, self._encoding)
            self._decoder = codecs.getincrementaldecoder(self._encoding)()
            self._behind_bytes = len(mark)
            piece = piece[len(mark) :]
        try:
            return self._decoder.decode(piece, final=self._is_at_end)
        except UnicodeDecodeError as exc:
            # `exc.start` also counts the bytes of a cut character that the decoder kept from the piece before.
            raise self.error(f"this is not {exc.encoding.upper()}", len(self._text), exc.start) from exc
