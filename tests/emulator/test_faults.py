"""Every fault fires when told to, and looks on the wire as it should."""

import gzip
import http.client
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from etl.emulator import FAULTS, EmbeddedStudio, FaultSpecError, StudioSettings, World
from etl.emulator.faults import RANDOM, FaultRule

WORLD = World(sessions_per_studio=10)
STUDIO, OTHER = WORLD.studio_ids
PAGE_SIZE = 4

Fetch = Callable[..., tuple[http.client.HTTPResponse, bytes]]


@pytest.fixture
def studio(night: datetime) -> Iterator[EmbeddedStudio]:
    with EmbeddedStudio(WORLD, StudioSettings(page_size=PAGE_SIZE, instant=night)) as studio:
        yield studio


@pytest.fixture
def fetch(studio: EmbeddedStudio, get: Any) -> Fetch:
    """Return one page of sessions, raw."""

    def fetch(token: str | None = None, studio_id: str = STUDIO) -> tuple[http.client.HTTPResponse, bytes]:
        query = "" if token is None else f"?nextToken={quote(token, safe='')}"
        answer: tuple[http.client.HTTPResponse, bytes]
        answer = get(studio, f"/2020-08-01/studios/{studio_id}/streaming-sessions{query}")
        return answer

    return fetch


def page_of(fetch: Fetch, token: str | None = None) -> Any:
    return json.loads(fetch(token)[1])


def fired(studio: EmbeddedStudio) -> list[str]:
    return [fault.kind for fault in studio.fired]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 429, "ThrottlingException"),
        ("internal-error", 500, "InternalServerErrorException"),
        ("unavailable", 503, "ServiceUnavailableException"),
        ("access-denied", 403, "AccessDeniedException"),
        ("quota", 402, "ServiceQuotaExceededException"),
        ("expired-credentials", 403, "ExpiredTokenException"),
        ("vanish", 404, "ResourceNotFoundException"),
        ("clock-skew", 403, "InvalidSignatureException"),
    ],
)
def test_errors_that_say_so(studio: EmbeddedStudio, fetch: Fetch, kind: str, status: int, code: str) -> None:
    studio.set_faults([kind])
    response, body = fetch()
    assert (response.status, response.headers["x-amzn-errortype"], json.loads(body)["code"]) == (
        status,
        code,
        code,
    )
    assert fired(studio) == [kind]
    assert studio.requests[-1].fault == kind


def test_clock_skew_shows_another_date(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["clock-skew"])
    (skewed, _), (right, _) = fetch(), fetch()
    ahead = parsedate_to_datetime(skewed.headers["Date"]) - parsedate_to_datetime(right.headers["Date"])
    assert ahead > timedelta(minutes=55)


def test_vanished_studio_stays_away_and_others_do_not(studio: EmbeddedStudio, fetch: Fetch) -> None:
    """Fault 21 as the walk sees it: there on page one, gone from then on."""
    studio.set_faults([f"vanish:studio={STUDIO},request=2"])
    assert [fetch()[0].status for _ in range(3)] == [200, 404, 404]
    assert fetch(studio_id=OTHER)[0].status == 200
    assert fired(studio) == ["vanish", "vanish"]


def test_expired_token_needs_a_token(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["expired-token"])
    token = page_of(fetch)["nextToken"]
    response, body = fetch(token)
    assert (response.status, json.loads(body)["code"]) == (400, "ValidationException")
    assert fetch(token)[0].status == 200
    assert fired(studio) == ["expired-token"]


def test_reset_closes_the_connection_without_an_answer(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["reset"])
    with pytest.raises(ConnectionResetError):
        fetch()
    assert fired(studio) == ["reset"]
    assert studio.requests[-1].status == 0
    assert fetch()[0].status == 200


def test_stall_outlasts_the_clients_patience(studio: EmbeddedStudio, get: Any) -> None:
    studio.set_faults(["stall"])
    path = f"/2020-08-01/studios/{STUDIO}/streaming-sessions"
    with pytest.raises(TimeoutError):
        get(studio, path, timeout_s=0.1)
    assert fired(studio) == ["stall"]
    assert get(studio, path)[0].status == 200


def test_truncated_body_is_shorter_than_its_content_length(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["truncate"])
    with pytest.raises(http.client.IncompleteRead) as error:
        fetch()
    assert error.value.expected
    assert error.value.partial.startswith(b'{"sessions":[')
    assert fired(studio) == ["truncate"]


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("html", lambda body: body.startswith(b"<html>")),
        ("empty-body", lambda body: body == b""),
        ("empty-object", lambda body: body == b"{}"),
        ("null-list", lambda body: json.loads(body)["sessions"] is None),
        ("missing-list", lambda body: json.loads(body).keys() == {"nextToken"}),
        ("wrong-type", lambda body: isinstance(json.loads(body)["sessions"], dict)),
        ("bad-utf8", lambda body: b"\xff\xfe" in body),
    ],
)
def test_status_200_that_is_no_page(studio: EmbeddedStudio, fetch: Fetch, kind: str, check: Any) -> None:
    studio.set_faults([kind])
    response, body = fetch()
    assert response.status == 200
    assert check(body)
    assert int(response.headers["Content-Length"]) == len(body)
    assert fired(studio) == [kind]


def test_corrupt_gzip_says_it_is_gzip(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["bad-gzip"])
    response, body = fetch()
    assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises(OSError, match=r"CRC|Not a gzipped|deflate"):
        gzip.decompress(body)
    assert fired(studio) == ["bad-gzip"]


def tokens_of_walk(fetch: Fetch, pages: int) -> list[str | None]:
    """Return the tokens of a walk of at most so many pages, as received."""
    tokens: list[str | None] = []
    token = None
    for _ in range(pages):
        token = page_of(fetch, token).get("nextToken")
        tokens.append(token)
        if not token:
            break
    return tokens


def test_repeated_token_is_the_one_just_sent(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["repeat-token"])
    first, second = tokens_of_walk(fetch, 2)
    assert first == second
    assert fired(studio) == ["repeat-token"]


def test_cycle_of_tokens_alternates(studio: EmbeddedStudio, fetch: Fetch) -> None:
    """A, B, A, B: no two in a row are equal, and it never ends."""
    studio.set_faults(["cycle-tokens"])
    tokens = tokens_of_walk(fetch, 8)
    assert len(tokens) == 8
    assert tokens == [tokens[0], tokens[1]] * 4
    assert tokens[0] != tokens[1]
    assert set(fired(studio)) == {"cycle-tokens"}


def test_endless_tokens_are_all_different(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["endless-tokens:page=2"])
    tokens = tokens_of_walk(fetch, 12)
    assert len(set(tokens)) == 12
    assert len(studio.fired) == 11


def test_empty_page_hides_nothing(studio: EmbeddedStudio, fetch: Fetch, night: datetime) -> None:
    """Who goes on after an empty page gets every session."""
    studio.set_faults(["empty-page:page=2"])
    sizes, ids, token = [], [], None
    while True:
        page = page_of(fetch, token)
        sizes.append(len(page["sessions"]))
        ids += [session["sessionId"] for session in page["sessions"]]
        if not (token := page.get("nextToken")):
            break
    records = WORLD.records("ListStreamingSessions", {"studioId": STUDIO}, night)
    assert ids == [record["sessionId"] for record in records]
    assert sizes[:3] == [4, 0, 4]
    assert fired(studio) == ["empty-page"]


@pytest.mark.parametrize(("kind", "value"), [("empty-token", ""), ("null-token", None)])
def test_last_page_may_say_so_with_an_empty_or_null_token(
    studio: EmbeddedStudio, fetch: Fetch, kind: str, value: str | None
) -> None:
    """Only the last page: elsewhere it would hide pages, and nobody could tell."""
    studio.set_faults([kind])
    assert tokens_of_walk(fetch, 9)[-1] == value
    assert [fault.page for fault in studio.fired] == [3]


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("token-none", lambda token: token == "None"),
        ("token-underscores", lambda token: token == "a___2"),
        ("token-scalar", lambda token: token == "Nw=="),
        ("token-long", lambda token: len(token) == 8_192),
        ("token-symbols", lambda token: set("&=+/%") <= set(token)),
    ],
)
def test_odd_token_leads_to_the_next_page_if_sent_verbatim(
    studio: EmbeddedStudio, fetch: Fetch, kind: str, check: Any
) -> None:
    """Fault 16: a token is nobody's to interpret."""
    second = page_of(fetch, page_of(fetch)["nextToken"])
    studio.set_faults([kind])
    odd = page_of(fetch)["nextToken"]
    assert check(odd)
    assert page_of(fetch, odd) == second
    assert fired(studio) == [kind]


def test_duplicates_stand_at_the_end_of_a_page_and_the_start_of_the_next(studio: EmbeddedStudio, fetch: Fetch) -> None:
    """Faults 18 and 19: the same, another of the same instant, and a newer one on the earlier page."""
    studio.set_faults(["duplicate:request=1", "conflict:request=3", "newer-duplicate:request=5"])
    for kind in ("duplicate", "conflict", "newer-duplicate"):
        page = page_of(fetch)
        early, late = page["sessions"][-1], page_of(fetch, page["nextToken"])["sessions"][0]
        assert early["sessionId"] == late["sessionId"]
        assert (early == late) == (kind == "duplicate")
        assert (early["updatedAt"] > late["updatedAt"]) == (kind == "newer-duplicate")
    assert fired(studio) == ["duplicate", "conflict", "newer-duplicate"]


def volume_size(sessions: list[Any]) -> Any:
    return next(s["volumeConfiguration"]["size"] for s in sessions if "volumeConfiguration" in s)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("unknown-enum", lambda sessions: sessions[0]["state"] == "HIBERNATED"),
        ("unknown-member", lambda sessions: sessions[0]["gpu"]["count"] == 1),
        ("bad-timestamp", lambda sessions: "soon" in sessions[0].values()),
        ("number-as-string", lambda sessions: isinstance(volume_size(sessions), str)),
        ("nested-type", lambda sessions: sessions[0]["volumeConfiguration"] == "gp3"),
        ("hostile-tags", lambda sessions: {"Name", "name", ""} < sessions[0]["tags"].keys()),
        ("many-tags", lambda sessions: len(sessions[0]["tags"]) == 10_000),
        ("hostile-ids", lambda sessions: sessions[0]["sessionId"].startswith("../../")),
    ],
)
def test_one_record_is_odd_and_the_others_are_not(studio: EmbeddedStudio, fetch: Fetch, kind: str, check: Any) -> None:
    good = page_of(fetch)["sessions"]
    studio.set_faults([kind])
    odd = page_of(fetch)["sessions"]
    assert check(odd)
    assert sum(a != b for a, b in zip(good, odd, strict=True)) == 1
    assert fired(studio) == [kind]


def test_odd_timestamps_are_the_same_instants(studio: EmbeddedStudio, fetch: Fetch) -> None:
    """Epoch seconds, fractions and offsets instead of Z."""
    good = page_of(fetch)["sessions"][0]
    studio.set_faults(["odd-timestamps"])
    odd = page_of(fetch)["sessions"][0]
    names = [name for name in good if name.endswith("At")]
    assert all(odd[name] != good[name] for name in names)
    for name in names:
        value = odd[name] if isinstance(odd[name], float) else datetime.fromisoformat(odd[name]).timestamp()
        assert value == datetime.fromisoformat(good[name]).timestamp()
    assert fired(studio) == ["odd-timestamps"]


def test_empty_list_looks_like_a_studio_without_sessions(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["empty-list"])
    assert page_of(fetch) == {"sessions": []}
    assert fired(studio) == ["empty-list"]


def test_every_fault_has_a_test() -> None:
    """A fault that nobody looks at may have stopped working."""
    source = Path(__file__).read_text()
    assert [kind for kind in FAULTS if f'"{kind}' not in source] == []


def test_rule_hits_from_the_nth_matching_request_so_many_times(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults([f"throttle:operation=ListStreamingSessions,studio={STUDIO},request=2,times=2"])
    assert fetch(studio_id=OTHER)[0].status == 200
    assert [fetch()[0].status for _ in range(5)] == [200, 429, 429, 200, 200]


def test_rule_hits_the_last_page_of_a_walk(studio: EmbeddedStudio, fetch: Fetch) -> None:
    studio.set_faults(["html:page=last,times=ever"])
    first = page_of(fetch)
    second = page_of(fetch, first["nextToken"])
    assert fetch(second["nextToken"])[1].startswith(b"<html>")
    assert [fault.page for fault in studio.fired] == [3]


def test_seeded_faults_depend_on_what_is_asked_not_when(studio: EmbeddedStudio, fetch: Fetch) -> None:
    """Concurrent walks arrive in any order; the same seed still gives the same faults."""
    answers: list[dict[str, list[int]]] = []
    for order in ((STUDIO, OTHER), (OTHER, STUDIO)):
        studio.set_faults(["seed=3,rate=0.4,kinds=throttle+internal-error"])
        answers.append({name: [fetch(studio_id=name)[0].status for _ in range(10)] for name in order})
        assert 0 < len(studio.fired) < 20
    assert answers[0] == answers[1]
    assert answers[0][STUDIO] != answers[0][OTHER]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("thrott1e", "no fault is called 'thrott1e'"),
        ("throttle:often=3", "cannot read 'often=3'"),
        ("throttle:request=soon", "cannot read 'request=soon'"),
        ("seed=42", "neither a fault nor a rate"),
        ("seed=42,rate=0.1,kinds=throttle+x", "no fault is called 'x'"),
    ],
)
def test_rule_that_cannot_be_read_is_named(spec: str, words: str) -> None:
    with pytest.raises(FaultSpecError, match=words):
        FaultRule.parse(spec)


def test_random_faults_are_faults() -> None:
    assert set(RANDOM) <= FAULTS.keys()
