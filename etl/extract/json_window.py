"""The text of one JSON file, of which only the part that is being read is in memory."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from etl.errors import SourceError

_PIECE_BYTES = 1024 * 1024
_MOST_CHARACTERS = 16 * 1024 * 1024
"""No record is longer, for no response of AWS is: what seems to be is something else, and must not fill the memory."""

_LONGEST_TOKEN = len(r"\ud83d\ude00")
"""What the end of a piece may cut, strings apart. The decoder complains about its first character."""

# PowerShell writes what it redirects as UTF-16, or begins UTF-8 with a mark.
_ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SPACE = re.compile(r"[ \t\n\r]*")


class Stream(Protocol):
    """What yields bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""


class JsonWindow:
    """The text of one file, of which the part that is being read is in memory.

    Args:
        name: of the file.
        stream: its content.
        expected: ends every message.
    """

    def __init__(self, name: str, stream: Stream, expected: str) -> None:
        self._name = name
        self._stream = stream
        self._expected = expected
        self._behind_bytes = 0
        """How much was let go, and lies before the text."""
        self._text = ""
        self._place = 0
        self._fault = 0
        """What an error names: where the value begins that was looked at last."""
        self._held: int | None = None
        self._encoding = "utf-8"
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_at_end = False

    def peek(self) -> str:
        """Return the next character that is not white space; none at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._place = self._fault = match.end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def demand(self, expected: str, what: str) -> str:
        """Return the next character, which must be one of these."""
        found = self.peek()
        if not found:
            raise self.error(f"the file ends here, where {what} belongs; it was cut off")
        if found not in expected:
            raise self.error(f"found {found!r} where {what} belongs")
        return found

    def take(self, expected: str) -> str:
        """Step over the next character, which must be one of these."""
        found = self.demand(expected, " or ".join(expected))
        self._place += 1
        return found

    def entries(self, opening: str, closing: str) -> Iterator[None]:
        """Step into a list or an object and stop before each of its entries, which the caller reads."""
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        while True:
            yield
            if self.take(f",{closing}") == closing:
                return

    def value(self) -> tuple[Any, str]:
        """Read a value; return it and its text."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as exc:
                if not (self._may_go_on(exc) and self._read_on()):
                    raise self._unreadable(exc) from exc
            else:
                # What looks like a number may go on; the decoder takes the 1 of 1e+ for the whole of it.
                if end + len("e+") < len(self._text) or not self._read_on():
                    text = self._text[self._place : end]
                    self._place = end
                    return found, text

    def hold(self) -> None:
        """Keep the text from here on, until it is released."""
        self.peek()
        self._held = self._place

    def release(self) -> str:
        """Return the text that was held, up to here; an error names its beginning."""
        assert self._held is not None
        held = self._text[self._held : self._place]
        self._fault, self._held = self._held, None
        return held

    def error(self, why: str) -> SourceError:
        """Return the error that names the place where the last value, or nothing, was found."""
        return self._error_at(self._fault, why)

    def _error_at(self, place: int, why: str) -> SourceError:
        return self._error_at_byte(self._offset(place), why)

    def _error_at_byte(self, offset: int, why: str) -> SourceError:
        return SourceError(f"{self._name}, byte {offset}: {why}; {self._expected}. Nothing was imported")

    def _offset(self, place: int) -> int:
        return self._behind_bytes + len(self._text[:place].encode(self._encoding))

    def _may_go_on(self, exc: Exception) -> bool:
        """Tell whether more text could make a broken value whole."""
        if not isinstance(exc, json.JSONDecodeError):
            return False
        return exc.msg.startswith("Unterminated string") or exc.pos > len(self._text) - _LONGEST_TOKEN

    def _unreadable(self, exc: Exception) -> SourceError:
        if not isinstance(exc, json.JSONDecodeError):
            return self.error("nested too deep" if isinstance(exc, RecursionError) else f"not JSON: {exc}")
        if exc.msg.startswith("Unterminated string") or exc.pos >= len(self._text.rstrip()):
            return self._error_at(len(self._text), "the file ends here, in the midst of a value; it was cut off")
        return self._error_at(exc.pos, f"not JSON: {exc.msg}")

    def _read_on(self) -> bool:
        """Let go of what was read, and append the next piece; tell whether there was one."""
        if self._is_at_end:
            return False
        keep = self._place if self._held is None else self._held
        if len(self._text) - keep >= _MOST_CHARACTERS:
            raise self._error_at(keep, f"what begins here has more than {_MOST_CHARACTERS >> 20} MiB")
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
            raise self._error_at(len(self._text), f"cannot be read any further: {exc}") from exc
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
            # What the decoder still held from the piece before is at the front of what it complains about.
            offset = self._offset(len(self._text)) + exc.start
            raise self._error_at_byte(offset, f"this is not {exc.encoding.upper()}") from exc


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")  # Python reads NaN and Infinity, which no other reader does


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
