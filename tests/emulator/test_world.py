"""The embedded studio's data: deterministic, lifelike, and the same whichever way one looks at it."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.emulator import Event, EventKind, World
from etl.emulator.studio import UnknownResourceError

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
WORLD = World(sessions_per_studio=200, epoch=FIRST.date())
STUDIO = {"studioId": WORLD.studio_ids[0]}
SESSIONS = "ListStreamingSessions"
Records = dict[str, dict[str, Any]]


def sessions(world: World, at: datetime, studio: int = 0) -> Records:
    records = world.records(SESSIONS, {"studioId": world.studio_ids[studio]}, at)
    return {record["sessionId"]: record for record in records}


@cache
def all_events() -> list[Event]:
    return WORLD.events(STUDIO["studioId"], until=datetime(2026, 12, 31, tzinfo=UTC))


def fold(events: list[Event], at: datetime) -> Records:
    """Lay the events over each other: a second, slow way to the members that they set."""
    listed: Records = {}
    for event in takewhile(lambda event: event.at <= at, events):
        if event.kind is EventKind.VANISHED:
            del listed[event.session_id]
        else:
            record = listed.setdefault(event.session_id, {})
            record |= event.changed
    return {key: {k: v for k, v in record.items() if v is not None} for key, record in listed.items()}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 120 * 86_400).map(lambda second: FIRST + timedelta(seconds=second)))
def test_events_agree_with_the_listing_at_any_instant(at: datetime) -> None:
    """Hours computed from the events must be the truth about what was listed."""
    expected, listed = fold(all_events(), at), sessions(WORLD, at)
    assert listed.keys() == expected.keys()
    for session_id, record in expected.items():
        assert record.items() <= listed[session_id].items()
        mutable = {"state", "startedAt", "stoppedAt", "stopAt", "terminateAt", "statusMessage", "startedBy"}
        assert not (mutable & listed[session_id].keys()) - record.keys()


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(range(0, 40_000, 97)))
def test_record_changes_exactly_at_the_event(number: int) -> None:
    """To the second: the event's own second shows it, the second before does not."""
    event = all_events()[number % len(all_events())]
    before = sessions(WORLD, event.at - timedelta(seconds=1)).get(event.session_id)
    after = sessions(WORLD, event.at).get(event.session_id)
    assert (before is None) == (event.kind is EventKind.CREATED)
    assert (after is None) == (event.kind is EventKind.VANISHED)
    if after:
        assert {k: v for k, v in event.changed.items() if v is not None}.items() <= after.items()
        assert after["updatedAt"] == event.at


def test_events_since_an_instant_are_whole_lives_of_the_sessions_listed_then(night: datetime) -> None:
    """Who computes one day's hours needs no more than that."""
    recent = WORLD.events(STUDIO["studioId"], until=night, since=night - timedelta(days=1))
    alive = {event.session_id for event in recent}
    assert set(sessions(WORLD, night)) | set(sessions(WORLD, night - timedelta(days=1))) <= alive
    expected = [event for event in all_events() if event.session_id in alive and event.at <= night]
    assert recent == expected


def test_equal_settings_are_equal_worlds_and_seeds_differ(night: datetime) -> None:
    """Everything is a function of settings and instant."""
    again = World(sessions_per_studio=200, epoch=WORLD.epoch)
    other = World(sessions_per_studio=200, epoch=WORLD.epoch, seed=8)
    assert sessions(again, night) == sessions(WORLD, night)
    assert not sessions(other, night).keys() & sessions(WORLD, night).keys()
    assert not sessions(WORLD, night, studio=1).keys() & sessions(WORLD, night).keys()


@pytest.mark.parametrize(("churn", "change"), [(0.02, 0.5), (0.1, 0.2)])
def test_nights_differ_by_the_churn_and_change_asked_for(night: datetime, churn: float, change: float) -> None:
    """A world that moves as told gives change logs their meaning."""
    world = World(sessions_per_studio=4_000, daily_churn=churn, daily_change=change)
    asleep = night.replace(hour=13)  # five in the morning at this studio, Tuesday and Wednesday
    yesterday, today = sessions(world, asleep), sessions(world, asleep + timedelta(days=1))
    stayed = yesterday.keys() & today.keys()
    changed = sum(yesterday[key] != today[key] for key in stayed)
    assert len(yesterday.keys() - today.keys()) / 4_000 == pytest.approx(churn, rel=0.3)
    assert len(today.keys() - yesterday.keys()) / 4_000 == pytest.approx(churn, rel=0.3)
    # Beside the sessions worked on: those that would be terminated, retagged ones, and yesterday's new ones.
    assert change * 0.9 < changed / len(stayed) < change + churn + 0.06


def test_a_world_can_stand_still() -> None:
    """Without churn and change, nights are equal."""
    world = World(sessions_per_studio=50, daily_churn=0, daily_change=0)
    at = datetime(2026, 6, 1, tzinfo=UTC)
    assert len(sessions(world, at)) == 50
    assert sessions(world, at) == sessions(world, at + timedelta(days=300))
    assert world.events(world.studio_ids[0], at)[-1].at < at - timedelta(days=300)


def test_before_the_epoch_no_session_exists() -> None:
    assert not sessions(WORLD, datetime(2026, 8, 30, tzinfo=UTC))


@pytest.mark.parametrize("hour", [2, 6, 14, 18, 20])
def test_sessions_keep_the_laws_of_their_members(night: datetime, hour: int) -> None:
    """Analysts' queries rest on these."""
    at = night.replace(hour=hour)
    for record in sessions(World(), at).values():
        running = record["state"] in ("START_IN_PROGRESS", "READY")
        order = [record["createdAt"], record.get("startedAt"), record["updatedAt"], at]
        times = [instant for instant in order if instant]
        assert times == sorted(times)
        assert record.get("stoppedAt", at) <= at
        assert ("stoppedAt" in record) == ("stoppedBy" in record)
        assert ("stopAt" in record) == running
        assert record.get("stopAt", at) >= at
        assert record.get("terminateAt", at) >= at
        persistent = record["sessionPersistenceMode"] == "ACTIVATED"
        assert ("volumeConfiguration" in record) == persistent
        assert persistent or record["automaticTerminationMode"] == "DEACTIVATED"
        assert all(value is not None for value in record.values())


def test_sessions_show_every_member_and_every_kind_of_tags(botocore_session: Any) -> None:
    """27 members, present and absent, and tags in all their forms."""
    model = botocore_session.get_service_model("nimble").shape_for("StreamingSession")
    day = datetime(2026, 11, 24, 8, tzinfo=UTC)
    moments = [day + timedelta(minutes=10 * step) for step in range(0, 144, 12)]
    records = [record for at in moments for record in sessions(World(), at).values()]
    counts = Counter(name for record in records for name in record)
    assert counts.keys() == model.members.keys()
    assert {n for n, count in counts.items() if count < len(records)} >= {
        "tags",
        "stoppedAt",
        "volumeConfiguration",
    }
    tags = [record.get("tags") for record in records]
    assert None in tags
    assert {} in tags
    assert any(t and {"Name", "name"} <= t.keys() for t in tags)
    assert any(t and not "".join(t.values()).isascii() for t in tags)
    assert {record["state"] for record in records} >= {"READY", "STOPPED", "START_FAILED", "CREATE_FAILED"}


def misfits(value: Any, shape: Shape, path: str) -> list[str]:
    """Name what in a value is not as the service model has it."""
    limits = shape.metadata
    found: list[str] = []
    match shape:
        case StructureShape():
            found += [f"{path}.{name} unknown" for name in value.keys() - shape.members.keys()]
            found += [f"{path}.{name} missing" for name in set(shape.required_members) - value.keys()]
            for name in value.keys() & shape.members.keys():
                found += misfits(value[name], shape.members[name], f"{path}.{name}")
            return found
        case ListShape():
            found += [m for item in value for m in misfits(item, shape.member, f"{path}[]")]
            size = len(value)
        case MapShape():
            found += [m for item in value.values() for m in misfits(item, shape.value, f"{path}{{}}")]
            size = len(value)
        case _:
            types = {"string": str, "integer": int, "timestamp": datetime}
            if not isinstance(value, types[shape.type_name]):
                return [f"{path} is {value!r}"]
            size = 0 if isinstance(value, datetime) else value if isinstance(value, int) else len(value)
    if not limits.get("min", size) <= size <= limits.get("max", size):
        found.append(f"{path} has size {size}")
    if "enum" in limits and value not in limits["enum"]:
        found.append(f"{path} is {value!r}")
    if "pattern" in limits and not re.search(limits["pattern"], value):
        found.append(f"{path} is {value!r}")
    return found


def test_every_record_of_every_listing_fits_the_service_model(
    botocore_session: botocore.session.Session, night: datetime
) -> None:
    """Types, enums, limits, patterns, required members: the studio serves nothing that the API could not."""
    model = botocore_session.get_service_model("nimble")
    profile = next(WORLD.records("ListLaunchProfiles", STUDIO, night))["launchProfileId"]
    for name in model.operation_names:
        output = model.operation_model(name).output_shape.members
        item = next(shape for member, shape in output.items() if member != "nextToken").member
        records = list(WORLD.records(name, STUDIO | {"launchProfileId": profile}, night))
        assert records
        assert [m for record in records for m in misfits(record, item, item.name)] == []
        arns = [record["arn"] for record in records if "arn" in record]
        assert all(arn.startswith("arn:aws:nimble:us-west-2:123456789012:") for arn in arns)


def test_components_have_all_four_kinds_of_configuration(night: datetime) -> None:
    kinds = [
        kind
        for record in WORLD.records("ListStudioComponents", STUDIO, night)
        for kind in record.get("configuration", ())
    ]
    assert len(set(kinds)) == 4


def test_a_page_deep_in_two_million_sessions_needs_no_other(night: datetime) -> None:
    """Listing is lazy: this test would take minutes otherwise."""
    world = World(sessions_per_studio=2_000_000)
    page = world.page(SESSIONS, {"studioId": world.studio_ids[1]}, night, 1_999_000, 100)
    assert len(page.records) == 100
    assert page.next_position


def test_filtered_page_looks_at_a_bounded_number_of_sessions(night: datetime) -> None:
    """A filter that nothing passes gives empty pages with a token, as filtered AWS listings do."""
    world = World(sessions_per_studio=2_000_000)
    page = world.page(SESSIONS, {"studioId": world.studio_ids[0], "ownedBy": "nobody"}, night, 0, 100)
    assert page == ([], 10_000)


def test_unknown_studio_and_naive_instant_are_errors(night: datetime) -> None:
    with pytest.raises(UnknownResourceError, match="us-west-2-nowhere"):
        WORLD.page(SESSIONS, {"studioId": "us-west-2-nowhere"}, night, 0, 1)
    with pytest.raises(ValueError, match="no time zone"):
        WORLD.page(SESSIONS, STUDIO, night.replace(tzinfo=None), 0, 1)
