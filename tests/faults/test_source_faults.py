"""What the source may do to a walk. Numbers are those of the fault catalogue; every fault is seen to fire."""

import pytest
from support.studios import LIST, fired, first


@pytest.fixture
def baseline(job, studio):
    """The rows of an undisturbed export, into the warehouse that the faulty one must then leave alone."""
    job.run()
    studio.set_faults([])
    return job.rows("streaming_sessions")


@pytest.mark.parametrize(
    "kind",
    [
        "html",
        "empty-body",
        "empty-object",
        "null-list",
        "missing-list",
        "wrong-type",
        "truncate",
        "bad-gzip",
        "bad-utf8",
    ],
)
def test_fault_1_2_a_malformed_page_is_asked_for_again(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},page=3,times=2"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 0
    assert outcome.counts["retries"] >= 1
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize("kind", ["html", "empty-object", "truncate"])
def test_fault_1_2_a_page_that_stays_malformed_is_an_error_and_never_the_end(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},page=3,times=ever"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 3, "run again: it is tried from page 3 on"
    assert sum(facts.publication is not None for facts in outcome.slices) == 2, "the others are published"
    failed = next(facts for facts in outcome.slices if facts.error)
    assert failed.slice.parents["studioId"] == first(studio)
    assert "page 3" in failed.error
    assert failed.pages == 2
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize("kind", ["throttle", "internal-error", "unavailable", "reset"])
def test_fault_3_5_a_passing_failure_is_survived_and_counted(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},page=2,times=3"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 0
    assert outcome.counts["retries"] >= 3
    assert job.rows("streaming_sessions") == baseline


def test_fault_4_throttled_for_ever_ends_at_the_deadline_resumable(job, studio, baseline):
    studio.set_faults([f"throttle:{LIST},page=2,times=ever"])

    (outcome,) = job.run(overrides={"max_duration": "4s"})

    assert fired(studio) == {"throttle"}
    assert outcome.exit_code == 3
    assert job.rows("streaming_sessions") == baseline
    studio.set_faults([])
    (outcome,) = job.run()
    assert outcome.exit_code == 0
    assert outcome.run.invocations == 2


@pytest.mark.parametrize("kind", ["access-denied", "quota"])
def test_fault_6_a_refusal_fails_at_once_and_names_the_action(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},times=ever"])
    before = len(studio.requests)

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert "nimble:ListStreamingSessions" in failed.error
    asked = [r for r in studio.requests[before:] if r.parameters.get("studioId") == first(studio)]
    assert len(asked) == 1, "never repeated"
    assert job.rows("streaming_sessions") == baseline


def test_fault_7_expired_credentials_are_renewed_once_and_the_page_repeated(job, studio, baseline):
    studio.set_faults([f"expired-credentials:{LIST},page=3,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {"expired-credentials"}
    assert outcome.exit_code == 0
    assert job.rows("streaming_sessions") == baseline


def test_fault_8_a_wrong_clock_is_named_with_its_difference(job, studio, baseline):
    studio.set_faults([f"clock-skew:{LIST},studio={first(studio)},times=ever"])

    (outcome,) = job.run()

    assert fired(studio) == {"clock-skew"}
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert "s from the server's" in failed.error
    assert job.rows("streaming_sessions") == baseline


def test_fault_9_an_expired_token_begins_a_new_attempt_of_its_slice(job, studio, baseline):
    studio.set_faults([f"expired-token:{LIST},studio={first(studio)},page=4,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {"expired-token"}
    assert outcome.exit_code == 0
    assert sorted(facts.attempt for facts in outcome.slices) == [1, 1, 2]
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize("kind", ["repeat-token", "cycle-tokens"])
def test_fault_11_12_tokens_that_come_back_end_the_walk_with_an_error(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},times=ever"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 5
    (failed,) = [facts for facts in outcome.slices if facts.error]
    assert "was followed before" in failed.error
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize("kind", ["empty-page", "empty-token", "null-token"])
def test_fault_14_15_an_empty_page_goes_on_and_an_empty_token_ends(job, studio, baseline, kind):
    page = "last" if kind.endswith("token") else "3"
    studio.set_faults([f"{kind}:{LIST},page={page}"])

    (outcome,) = job.run()

    assert kind in fired(studio)
    assert outcome.exit_code == 0
    assert job.ask("select count(*) from streaming_sessions") == [(len(baseline),)]


@pytest.mark.parametrize("kind", ["token-none", "token-underscores", "token-scalar", "token-long", "token-symbols"])
def test_fault_16_odd_tokens_are_carried_verbatim(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},page=2,times=1"])

    (outcome,) = job.run()

    assert kind in fired(studio)
    assert outcome.exit_code == 0
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize("kind", ["duplicate", "conflict", "newer-duplicate"])
def test_fault_18_19_a_session_on_two_pages_is_kept_once_and_counted(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},page=2,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 0
    assert outcome.counts["duplicates"] == 1
    assert job.ask("select count(*), count(distinct session_id) from streaming_sessions") == [(len(baseline),) * 2]


def test_fault_21_a_studio_that_vanishes_keeps_its_last_snapshot_and_is_named(job, studio, baseline):
    studio.set_faults([f"vanish:studio={first(studio)},request=3,times=ever"])

    (outcome,) = job.run()

    assert fired(studio) == {"vanish"}
    assert outcome.exit_code == 5
    assert [facts.state.value for facts in outcome.slices if facts.error] == ["gone"]
    assert job.rows("streaming_sessions") == baseline


@pytest.mark.parametrize(("kind", "says"), [("unknown-enum", " = "), ("unknown-member", "member ")])
def test_fault_24_what_the_model_does_not_know_is_kept_and_reported(job, studio, baseline, kind, says):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},page=1,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 0
    assert any(says in name for facts in outcome.slices for name in facts.drift)
    assert job.ask("select count(*) from streaming_sessions") == [(len(baseline),)]


@pytest.mark.parametrize("kind", ["bad-timestamp", "number-as-string", "nested-type"])
def test_fault_25_a_record_that_does_not_fit_is_rejected_whole_and_the_others_published(job, studio, baseline, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},page=1,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert outcome.exit_code == 5
    rejects = outcome.counts["rejects"]
    assert rejects >= 1
    assert job.ask("select count(*) from streaming_sessions") == [(len(baseline) - rejects,)]
    assert job.ask("select count(*) from etl_rejects where record like '{%sessionId%' and reason <> ''") == [(rejects,)]


@pytest.mark.parametrize("kind", ["hostile-tags", "many-tags", "hostile-ids", "odd-timestamps"])
def test_fault_26_28_53_hostile_values_arrive_intact_or_whole_in_the_rejects(job, studio, kind):
    studio.set_faults([f"{kind}:{LIST},studio={first(studio)},page=1,times=1"])

    (outcome,) = job.run()

    assert fired(studio) == {kind}
    assert (
        outcome.counts["rows"] + outcome.counts["rejects"] + outcome.counts["duplicates"] == outcome.counts["records"]
    )
    there = {path.name for path in (job.directory / "warehouse").iterdir()} - {".lock"}
    assert all(name.startswith(("etl_", "stud", "streaming_", "warehouse.", ".warehouse.")) for name in there)
