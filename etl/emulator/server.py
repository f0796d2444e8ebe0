"""The embedded studio on a socket: in a thread of this process, or as a program of its own."""

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from etl.emulator.app import TRANSPORT, EmbeddedStudioApp, LoggedRequest, StudioSettings
from etl.emulator.faults import FaultPlan, Fired
from etl.emulator.organization import Organization
from etl.emulator.signature import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from etl.emulator.world import World

HOST = "127.0.0.1"
START_TIMEOUT_S = 10


class PortInUseError(OSError):
    """The port asked for is taken."""


class EmbeddedStudio:
    """A running studio; a context manager.

    It answers on 127.0.0.1 from a daemon thread as soon as it is made.

    Attributes:
        credentials: access key id and secret access key that clients sign with.
        world: what exists.
        endpoint_url: for example http://127.0.0.1:8790.
    """

    credentials = (ACCESS_KEY_ID, SECRET_ACCESS_KEY)

    def __init__(
        self,
        world: World | None = None,
        settings: StudioSettings | None = None,
        *,
        port: int = 0,
        faults: Iterable[str] = (),
        organization: Organization | None = None,
    ) -> None:
        """Start it.

        Args:
            world: what exists; the default world where it is None.
            settings: how it answers.
            port: 0: any that is free.
            faults: rules as `etl.emulator.faults` reads them.
            organization: further accounts and Regions; None: there is only the world's own.

        Raises:
            FaultSpecError: a fault rule cannot be understood.
            PortInUseError: the port is taken.
        """
        self.world = world or World()
        self._app = EmbeddedStudioApp(self.world, settings or StudioSettings(), FaultPlan.parse(faults), organization)
        self._socket = _listen(port)
        self.endpoint_url = "http://{}:{}".format(*self._socket.getsockname())
        self._server = _Server(self._app)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="studio", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START_TIMEOUT_S):
            raise RuntimeError(f"the embedded studio did not start within {START_TIMEOUT_S} s")

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far, in the order of arrival."""
        return list(self._app.requests)

    @property
    def fired(self) -> list[Fired]:
        """Every fault that fired so far, in order."""
        return list(self._app.faults.fired)

    def set_instant(self, at: datetime | None) -> None:
        """Move the world to an instant (aware), or let it go with the clock (None)."""
        self._app.instant = at

    def set_clock(self, now: Callable[[], datetime]) -> None:
        """Go by another clock (aware): for signatures, lifetimes of credentials and tokens, and the Date header."""
        self._app.settings = replace(self._app.settings, now=now)

    def set_faults(self, specs: Iterable[str]) -> None:
        """Replace the fault rules; what fired before is forgotten.

        Raises:
            FaultSpecError: a rule cannot be understood.
        """
        self._app.faults = FaultPlan.parse(specs)

    def join(self) -> None:
        """Wait until the studio ends: for ever, or until a signal."""
        self._thread.join()

    def close(self) -> None:
        """End it. Requests in flight are cut off."""
        self._server.stop()
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(  # noqa: PLR0913  what, where and how
    world: World,
    settings: StudioSettings,
    *,
    port: int,
    faults: Iterable[str] = (),
    organization: Organization | None = None,
    on_ready: Callable[[str], None] = lambda endpoint_url: None,
) -> None:
    """Run a studio until a signal (KeyboardInterrupt) ends it.

    Args:
        world: what exists.
        settings: how it answers.
        port: 0: any that is free.
        faults: rules as `etl.emulator.faults` reads them.
        organization: further accounts and Regions; None: there is only the world's own.
        on_ready: called once, with the endpoint URL, when it answers.

    Raises:
        FaultSpecError: a fault rule cannot be understood.
        PortInUseError: the port is taken.
    """
    with EmbeddedStudio(world, settings, port=port, faults=faults, organization=organization) as studio:
        on_ready(studio.endpoint_url)
        studio.join()


class _Protocol(HttpToolsProtocol):
    """Hands out the transport, so that a fault can reset the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class _Server(uvicorn.Server):
    def __init__(self, app: EmbeddedStudioApp) -> None:
        config = uvicorn.Config(
            app.asgi,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
        )
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Faults are meant: uvicorn need not complain about the connections they cut.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.ready.set()

    async def main_loop(self) -> None:
        # In place of uvicorn's tick of 100 ms, which is there for limits that are not used here.
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def stop(self) -> None:
        """End the server from another thread."""
        self._loop.call_soon_threadsafe(self._ended.set)


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY; without, every answer waits 40 ms for an acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUseError(error.errno, f"port {port} of {HOST} is in use; choose another, or 0 for any") from error
    listener.listen(1024)
    return listener
