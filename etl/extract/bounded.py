"""Reads response bodies as they arrive, up to a size and for a time. botocore itself reads a body without any bound."""

import time
from typing import Any

import botocore.exceptions as boto
from urllib3.exceptions import HTTPError, ReadTimeoutError

from etl.errors import SourceError
from etl.extract.redact import without_userinfo

_PIECE_BYTES = 256 * 1024
_MOST_S = 300.0
"""How long one body may take, however steadily it drips."""


class BoundedSession:
    """Stands in for the HTTP session of a botocore client. A body has at most `most_bytes` bytes."""

    def __init__(self, session: Any, most_bytes: int) -> None:
        self._session = session
        self._most_bytes = most_bytes

    def send(self, request: Any) -> Any:
        """Send a prepared request, and return its response with the whole body.

        Raises:
            SourceError: the body is too large.
            ReadTimeoutError, ConnectionClosedError (botocore's): it did not arrive.
        """
        request.stream_output = True  # otherwise the session would read the body at once
        response = self._session.send(request)
        response._content = self._read(request, response)  # noqa: SLF001  where botocore keeps a body that it has read
        return response

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def _read(self, request: Any, response: Any) -> bytes:
        pieces, size, until, is_whole = [], 0, time.monotonic() + _MOST_S, False
        try:
            for piece in response.raw.stream(_PIECE_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > self._most_bytes:
                    url = without_userinfo(request.url.partition("?")[0])
                    raise SourceError(
                        f"{url}: a response of more than {self._most_bytes} bytes; expected "
                        "a page. Lower `page_size` of the dataset, or raise source.max_page_bytes"
                    )
                if time.monotonic() > until:
                    raise boto.ReadTimeoutError(endpoint_url=request.url, error=f"not whole after {_MOST_S:.0f} s")
            is_whole = True
        except ReadTimeoutError as exc:
            raise boto.ReadTimeoutError(endpoint_url=request.url, error=exc) from exc
        except HTTPError as exc:
            raise boto.ConnectionClosedError(endpoint_url=request.url, request=request, error=exc) from exc
        finally:
            if not is_whole:
                response.raw.close()
        return b"".join(pieces)
