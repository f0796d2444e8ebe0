"""The embedded studio: a local HTTP server that speaks the Amazon Nimble Studio wire protocol.

    world.py      what exists: studios and their listings, a pure function of settings and an instant
    sessions.py   ... and the lives of streaming sessions, event by event
    app.py        the wire: operations, page tokens, error bodies, request log
    organization.py   several accounts: roles, keys, Regions, and what AWS says about an organization
    signature.py  Signature Version 4, verified
    reply.py      an answer, before it becomes bytes
    faults.py     scripted and seeded misbehaviour
    server.py     the socket and the thread

It stands alone: it imports nothing else of this project, and reads the service model as data.
"""

from etl.emulator.app import LoggedRequest, StudioSettings
from etl.emulator.faults import FAULTS, FaultSpecError, Fired
from etl.emulator.organization import Organization
from etl.emulator.server import EmbeddedStudio, PortInUseError, serve
from etl.emulator.sessions import Event, EventKind
from etl.emulator.world import World

__all__ = [
    "FAULTS",
    "EmbeddedStudio",
    "Event",
    "EventKind",
    "FaultSpecError",
    "Fired",
    "LoggedRequest",
    "Organization",
    "PortInUseError",
    "StudioSettings",
    "World",
    "serve",
]
