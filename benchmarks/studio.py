"""The embedded studio's listing, recorded once and replayed fast, so that the server is nobody's bottleneck.

    python -m benchmarks.studio --recording FILE --sessions 200000 --studios 1 --latency-ms 40

The emulator takes 0.1 ms to invent a session, which is longer than some contenders need to export it. So its pages
are rendered to a file, byte for byte as it sends them but for their tokens, and served from there. Whoever asks for
more sessions than were recorded gets the recording again, under other session ids.
"""

import argparse
import asyncio
import base64
import datetime as dt
import json
import selectors
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from etl.emulator import World

PAGE_SESSIONS = 100
NIGHT = dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)
_MARK = b"00"
"""Begins every recorded session id; the number of the lap takes its place."""
_END = b"\n"


def record(path: Path, sessions: int) -> None:
    """Write the first pages of one studio to a file, one a line, without the token that ends them."""
    world = World(seed=7, studios=1, sessions_per_studio=sessions * 11 // 10)  # some are deleted by that night
    studio_id = world.page("ListStudios", {}, NIGHT, 0, 1).records[0]["studioId"]
    draft, position = path.with_suffix(".draft"), 0
    with draft.open("wb") as file:
        for _ in range(sessions // PAGE_SESSIONS):
            page = world.page("ListStreamingSessions", {"studioId": studio_id}, NIGHT, position, PAGE_SESSIONS)
            for session in page.records:
                session_id = session["sessionId"]
                session["sessionId"] = _MARK.decode() + session_id[2:]
                session["arn"] = session["arn"].replace(session_id, session["sessionId"])
            assert page.next_position is not None
            position = page.next_position
            file.write(msgspec.json.encode(page.records) + _END)
    draft.rename(path)


class Listing:
    """The pages of some studios, in equal parts."""

    def __init__(self, recording: Path, sessions: int, studios: int) -> None:
        self._file = recording.open("rb")
        self._lengths = [len(line) for line in self._file]
        self._starts = [sum(self._lengths[:i]) for i in range(len(self._lengths))]
        self._pages = sessions // PAGE_SESSIONS // studios
        records = World(seed=7, studios=studios, sessions_per_studio=PAGE_SESSIONS).page(
            "ListStudios", {}, NIGHT, 0, studios
        )
        self._studios = records.records
        self._places = {studio["studioId"]: i for i, studio in enumerate(self._studios)}

    def answer(self, path: str, query: str) -> bytes | None:
        """Return the body for a request; None for a path that there is not."""
        parts = path.strip("/").split("/")
        if parts[1:] == ["studios"]:
            return msgspec.json.encode({"studios": self._studios})
        if parts[3:] != ["streaming-sessions"] or parts[2] not in self._places:
            return None
        token = parse_qs(query).get("nextToken")
        number = int(base64.b64decode(token[0])) if token else 0
        body = self._read(self._places[parts[2]] * self._pages + number)
        if number + 1 == self._pages:
            return b'{"sessions":' + body + b"}"
        following = base64.b64encode(b"%064d" % (number + 1))
        return b'{"sessions":' + body + b',"nextToken":"' + following + b'"}'

    def _read(self, number: int) -> bytes:
        lap, place = divmod(number, len(self._lengths))
        self._file.seek(self._starts[place])
        body = self._file.read(self._lengths[place] - len(_END))
        if lap:
            for before in (b'"sessionId":"', b":streaming-session/"):
                body = body.replace(before + _MARK, before + b"%02d" % lap)
        return body


class _Connection(asyncio.Protocol):
    """One client: GET requests without a body, one after the other."""

    def __init__(self, listing: Listing, latency_s: float, requests: list[str], pauses_s: list[float]) -> None:
        self._listing = listing
        self._latency_s = latency_s
        self._requests = requests
        self._pauses_s = pauses_s
        self._answered_at: float | None = None
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if end:
            self._received = rest
            if self._answered_at is not None:
                self._pauses_s.append(now - self._answered_at)
            target = urlsplit(head.split(b" ", 2)[1].decode())
            answer = self._answer(target.path, target.query)
            asyncio.get_running_loop().call_at(now + self._latency_s, self._send, answer)

    def _send(self, answer: bytes) -> None:
        self._transport.write(answer)
        self._answered_at = asyncio.get_running_loop().time()

    def _answer(self, path: str, query: str) -> bytes:
        if path == "/requests":
            body: bytes | None = json.dumps(self._requests).encode()
        elif path == "/pauses":  # seconds from each answer to the next request on its connection, since the last look
            body = json.dumps(self._pauses_s).encode()
            self._pauses_s.clear()
        else:
            self._requests.append(f"{path}?{query}")
            body = self._listing.answer(path, query)
        status, body = ("200 OK", body) if body is not None else ("404 Not Found", b"{}")
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"x-amzn-RequestId: {len(self._requests):08x}-0000-4000-8000-000000000000\r\n\r\n"
        )
        return head.encode() + body


async def serve(listing: Listing, latency_s: float) -> None:
    """Answer on a free port, printed, until killed."""
    requests: list[str] = []
    pauses_s: list[float] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(listing, latency_s, requests, pauses_s), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recording", type=Path, required=True)
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--studios", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    listing = Listing(options.recording, options.sessions, options.studios)
    try:
        # Epoll, which asyncio uses by default, rounds each wait up to whole milliseconds.
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
            runner.run(serve(listing, options.latency_ms / 1000))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
