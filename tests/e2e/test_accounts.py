"""Many accounts and Regions in one run: who signs what, what fails alone, and what a resumed run remembers."""

import datetime as dt
from collections import Counter

import pyarrow as pa
import pytest
from support.engines import content, exported
from support.job import DATE, job_at
from support.studios import studio_of

from etl.emulator import Organization, World
from etl.errors import ConfigError
from etl.extract import accounts
from etl.extract.clients import Clients
from etl.jobs.reading import Reading
from etl.jobs.status import status
from etl.model import SliceState
from etl.pipeline.walks import Stop

MEMBERS = tuple(f"{2 * 10**11 + number}" for number in range(1, 20))
ALL = "  organization: {role: reader, external_id: ext-1}\n  regions: opted-in"
MY_STUDIOS = (
    "{name: my_studios, service: nimble, operation: list_studios, key: [studio_id], tolerate: [AccessDeniedException]}"
)
NIGHT_2 = DATE + dt.timedelta(days=1)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that starts a studio of several accounts, and returns it and a job against it."""
    started = []

    def start(source, *, members=MEMBERS, datasets="[studios]", world=None, page_size=20, **more):
        faults = more.pop("faults", ())
        organization = Organization(members, role="reader", external_id="ext-1", **more)
        world = world or World(studios=1, sessions_per_studio=4)
        started.append(studio_of(world, page_size=page_size, faults=faults, organization=organization))
        job = job_at(tmp_path / "job", started[-1], source=source, rest=f"datasets: {datasets}")
        return started[-1], job.lend_credentials(monkeypatch)

    yield start
    for studio in started:
        studio.close()


def named(*ids, **more):
    """Return the part of the configuration that names accounts; `more` is further settings of each, by its id."""
    entries = (f"{{id: '{one}', role: reader, external_id: ext-1{more.get('of_' + one, '')}}}" for one in ids)
    return f"  accounts: [{', '.join(entries)}]"


def asked(studio, operation):
    return [request for request in studio.requests if request.operation == operation]


def test_200_slices_of_20_accounts_in_3_regions_are_signed_by_their_own_accounts(start, monkeypatch):
    """One client for each service and Region serves all accounts, and none is signed for by another."""
    made = []
    make = Clients.make
    monkeypatch.setattr(Clients, "make", lambda self, *of, **more: made.append(of) or make(self, *of, **more))
    world = World(studios=2, sessions_per_studio=4)
    studio, job = start(ALL, world=world, datasets="[studios, streaming_sessions]")

    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert len(outcome.slices) == 201  # 1 listing of accounts, 20 of Regions, 60 of studios, 120 of sessions
    places = "count(distinct account_id), count(distinct region), count(distinct (account_id, region))"
    assert job.ask(f"select {places} from streaming_sessions") == [(20, 3, 60)]
    ours = "account_id = split_part(arn, ':', 5) and region = split_part(arn, ':', 4)"
    assert job.ask(f"select count(*) from streaming_sessions where not ({ours})") == [(0,)]
    assert {request.status for request in studio.requests} == {200}
    assert Counter(made) <= Counter(
        [("nimble", region) for region in ("us-west-2", "us-east-1", "eu-central-1")]
        + [(service, "us-west-2") for service in ("organizations", "account", "sts", "sts")]
    )
    assert len(asked(studio, "AssumeRole")) == 19
    assert not job.problems()


def test_a_reading_lists_the_accounts_of_a_night_and_a_worker_assumes_each_role_once(start):
    studio, job = start(ALL, members=MEMBERS[:4], datasets="[streaming_sessions]")
    assert job.run()[0].exit_code == 0
    wanted = Reading.of(job.settings(datasets=["streaming_sessions"]))
    parts = wanted.parts()
    before = len(asked(studio, "AssumeRole"))

    found = pa.Table.from_batches([rows for part in parts for rows in wanted.read(part)])

    assert content(found) == content(exported(job, "streaming_sessions"))
    assert len({(part.slice.account_id, part.slice.region) for part in parts}) == len(parts) == 15
    assert len(asked(studio, "AssumeRole")) - before == 4


def test_an_account_that_fails_costs_only_its_slices_and_is_named(start):
    """Three ways to fail: STS refuses, the role does not exist, and the role may not list."""
    refused, missing, powerless = MEMBERS[:3]
    studio, job = start(
        named(*MEMBERS, "300000000000").replace(f"'{missing}', role: reader", f"'{missing}', role: other"),
        members=(*MEMBERS, "300000000000"),
        faults=[
            f"access-denied:account={refused},operation=AssumeRole,times=ever",
            f"access-denied:account={powerless},operation=ListStudios,times=ever",
        ],
        datasets="[studios, eulas]",
    )

    (outcome,) = job.run()

    assert outcome.exit_code == 5
    assert job.ask("select count(distinct account_id) from studios") == [(17,)]
    errors = {facts.slice.account_id: facts.error for facts in outcome.slices if facts.slice.dataset == "studios"}
    assert {account_id for account_id, error in errors.items() if error} == {refused, missing, powerless}
    for account_id, role in ((refused, "reader"), (missing, "other")):
        denied = f"sts:AssumeRole on arn:aws:iam::{account_id}:role/{role} answered 403 AccessDenied"
        assert errors[account_id].startswith(
            f"studios[{account_id}, us-west-2], page 1: account {account_id}: {denied}"
        )
        assert "let the trust policy of the role name this job's user or role" in errors[account_id]
    assert "the credentials need nimble:ListStudios" in errors[powerless]
    assert len(asked(studio, "AssumeRole")) == 20  # what is refused is not asked for again by the next dataset


def test_a_walk_that_outlives_its_credentials_three_times_loses_no_page(start, monkeypatch):
    clock = dt.datetime.now(dt.UTC)
    world = World(studios=1, sessions_per_studio=100)
    studio, job = start(named(MEMBERS[0]), world=world, page_size=2, datasets="[streaming_sessions]")
    studio.set_clock(lambda: clock)
    monkeypatch.setattr(accounts, "_now", lambda: clock)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: clock.replace(tzinfo=None))

    def later(*_page):
        nonlocal clock
        clock += dt.timedelta(minutes=4)

    (outcome,) = job.run(on_page=later)

    assert outcome.exit_code == 0
    assert outcome.counts["pages"] > 45  # three hours
    assert len(asked(studio, "AssumeRole")) >= 4
    assert {request.status for request in studio.requests} == {200}  # none was signed with credentials that are over
    assert (
        job.ask("select count(*), count(distinct session_id) from streaming_sessions")[0][0] == outcome.counts["rows"]
    )


def test_credentials_that_are_over_too_early_are_had_once_more(start):
    ids = MEMBERS[:2]
    fault = f"expired-credentials:account={ids[0]},operation=ListStudios"
    studio, job = start(named(*ids), faults=[fault])
    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert len(asked(studio, "AssumeRole")) == 3
    assert [fired.kind for fired in studio.fired] == ["expired-credentials"]


def test_an_account_that_throttles_for_ever_is_given_up_and_the_others_are_published(start):
    slow = MEMBERS[0]
    studio, job = start(
        f"{named(*MEMBERS[:4])}\n  regions: [us-west-2]",
        faults=[f"throttle:account={slow},operation=ListStudios,times=ever"],
    )
    job.config.write_text(job.config.read_text().replace("timeout: 2,", "timeout: 0.5,"))
    (outcome,) = job.run()
    assert outcome.exit_code == 3
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert failed.resumable
    assert f"nimble asks for fewer requests in account {slow}, us-west-2" in failed.error
    assert "source.retry.timeout" in failed.error

    studio.set_faults([])
    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert job.ask("select count(distinct account_id) from studios") == [(4,)]


def test_a_throttled_page_counts_its_tries(start):
    _, job = start(named(MEMBERS[0]), faults=["throttle:operation=ListStudios,times=2"])
    (outcome,) = job.run()
    assert (outcome.exit_code, outcome.counts["retries"]) == (0, 2)


def test_a_resumed_run_has_the_accounts_and_regions_that_it_began_with(start):
    studio, job = start(ALL, members=MEMBERS[:2], regions=("us-east-1",), suspended=MEMBERS[:1])
    stop = Stop()
    (outcome,) = job.run(stop=stop, on_page=lambda slice_, _: slice_.dataset == "studios" and stop.set())
    assert outcome.exit_code == 3

    (outcome,) = job.run()

    assert outcome.exit_code == 0
    assert len(asked(studio, "ListAccounts")) == 1
    assert len(asked(studio, "ListRegions")) == 2
    assert job.ask("select distinct account_id, region from studios order by all") == [
        (account_id, region) for account_id in ("123456789012", MEMBERS[1]) for region in ("us-east-1", "us-west-2")
    ]


def test_units_are_listed_with_those_below_them_and_skipped_accounts_are_not(start):
    source = f"  organization: {{role: reader, external_id: ext-1, units: [ou-emb1-00000001], skip: ['{MEMBERS[0]}']}}"
    _, job = start(source, members=MEMBERS[:4])
    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert job.ask("select account_id from studios order by all") == [(one,) for one in MEMBERS[1:4]]


def test_an_organization_that_may_not_be_listed_fails_the_run(start):
    _, job = start(ALL, faults=["access-denied:operation=ListAccounts"])
    (outcome,) = job.run()
    assert outcome.exit_code == 1
    (facts,) = outcome.slices
    assert "the credentials need organizations:ListAccounts" in facts.error


def test_a_refusal_that_is_tolerated_skips_the_slice_and_keeps_its_last_snapshot(start):
    """It is a note, no failure; and nothing is said to have vanished."""
    studio, job = start(named(*MEMBERS[:2]), datasets=f"[{MY_STUDIOS}]")
    job.run()
    studio.set_faults([f"access-denied:account={MEMBERS[0]},operation=ListStudios"])

    (outcome,) = job.run(NIGHT_2)

    assert outcome.exit_code == 0
    states = {facts.slice.account_id: facts.state for facts in outcome.slices}
    assert states == {MEMBERS[0]: SliceState.SKIPPED, MEMBERS[1]: SliceState.COMPLETE}
    shown = job.ask("select account_id, snapshot_date from my_studios order by all")
    assert shown == [(MEMBERS[0], DATE), (MEMBERS[1], NIGHT_2)]
    assert job.ask("select count(*) from my_studio_changes where change = 'vanished'") == [(0,)]
    ((note,),) = job.ask("select error from etl_slices where state = 'skipped'")
    assert "answered 403 AccessDeniedException" in note
    assert note.endswith("; the dataset tolerates that")


def test_status_compares_the_slices_of_each_account_with_what_its_own_parent_lists(start):
    """And what tells accounts and Regions has no snapshots that could be too old."""
    both = "[studios, streaming_sessions]"
    studio, job = start(f"{named(*MEMBERS[:2])}\n  regions: opted-in", regions=(), datasets=both)
    job.run()
    studio.set_faults([f"empty-list:account={MEMBERS[0]},operation=ListStudios"])
    job.run(NIGHT_2, allow_fall=True)

    found = status(job.settings(max_age="1d"), 1)

    assert not found.is_stale
    states = {(row["dataset"], row["account_id"]): row["state"] for row in found.snapshots}
    assert states == {
        ("studios", MEMBERS[0]): "ok",
        ("studios", MEMBERS[1]): "ok",
        ("streaming_sessions", MEMBERS[0]): "no longer listed",
        ("streaming_sessions", MEMBERS[1]): "ok",
    }


def test_a_region_that_is_not_opted_into_costs_only_its_slices(start):
    _, job = start(f"{named(MEMBERS[0])}\n  regions: [us-west-2, ap-east-1]")
    (outcome,) = job.run()
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert f"has account {MEMBERS[0]} opted into ap-east-1?" in failed.error


def test_credentials_of_another_account_are_not_used_for_one_that_has_no_role(start):
    _, job = start(f"  accounts: [{{id: '{MEMBERS[0]}'}}, {{id: '123456789012'}}]")
    (outcome,) = job.run()
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert f"account {MEMBERS[0]}: the credentials of this job are of account 123456789012" in failed.error
    assert job.ask("select account_id from studios") == [("123456789012",)]


@pytest.mark.on_disk
def test_an_account_without_any_credentials_costs_only_its_slices(start, monkeypatch, tmp_path):
    """The job has none; one account has a profile."""
    studio, job = start(f"  accounts: [{{id: '123456789012', profile: audit}}, {{id: '{MEMBERS[0]}', role: reader}}]")
    key_id, secret = studio.credentials
    profile = tmp_path / "credentials"
    profile.write_text(f"[audit]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    (outcome,) = job.run()
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert f"studios[{MEMBERS[0]}, us-west-2], page 1: " in failed.error
    assert "Unable to locate credentials" in failed.error
    assert job.ask("select account_id from studios") == [("123456789012",)]


def test_a_warehouse_takes_accounts_that_are_added_and_refuses_others(start):
    studio, job = start(named(*MEMBERS[:2]))
    job.run()
    text = job.config.read_text()

    job.config.write_text(text.replace(named(*MEMBERS[:2]), named(*MEMBERS[1:3])))
    (outcome,) = job.run(NIGHT_2)
    assert outcome.exit_code == 0

    so_far = len(studio.requests)
    job.config.write_text(text.replace(named(*MEMBERS[:2]), named(*MEMBERS[5:7])))
    with pytest.raises(ConfigError, match=f"is filled with account {MEMBERS[0]} of .*; found account {MEMBERS[5]}"):
        job.run(NIGHT_2)
    assert len(studio.requests) == so_far


def test_regions_alone_are_those_of_the_account_of_the_credentials(start):
    _, job = start("  regions: [us-west-2, us-east-1]")
    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert job.ask("select account_id, region from studios order by all") == [
        ("123456789012", "us-east-1"), ("123456789012", "us-west-2"),
    ]  # fmt: skip
