"""What no list of faults thought of: responses, dumps and damages from a seed, judged by a model of their own.

THOROUGH=1 tries more; `make torture` tries as many as its minutes allow, with the same judges (torture/judge.py).
"""

from dataclasses import replace

import pytest
from support.thorough import THOROUGH
from support.torture import torture
from torture.judge import judge_damage, judge_dumps, judge_responses, make_template
from torture.play import ViolationError

IN_A_BLOCK = 25


@pytest.mark.parametrize("seed", range(400 if THOROUGH else 40))
def test_fault_1_to_28_70_72_hostile_responses_become_exactly_what_a_model_says(seed, tmp_path):
    judge_responses(seed, tmp_path)


@pytest.mark.parametrize("block", range(20 if THOROUGH else 4))
def test_fault_58_61_70_hostile_dumps_are_read_wholly_or_not_at_all(block, tmp_path):
    codes = judge_dumps(range(block * IN_A_BLOCK, (block + 1) * IN_A_BLOCK), tmp_path)

    assert {0, 1} <= set(codes), "some are imported, some refused"


@pytest.fixture(scope="module")
def template(small_studio, tmp_path_factory):
    return make_template(tmp_path_factory.mktemp("damages"), small_studio)


@pytest.mark.parametrize("seed", range(300 if THOROUGH else 16))
def test_fault_36_38_39_66_69_after_any_damage_nothing_false_is_shown_without_a_word(seed, template, tmp_path):
    judge_damage(seed, template, tmp_path)


# The judges can say no


def test_a_walk_that_fails_where_the_model_sees_a_good_one_breaks_a_promise(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBLE_ETL_SOURCE__RETRY__TIMEOUT", "0.000001s")  # one of its responses is cut short

    with pytest.raises(ViolationError, match="a walk that must end well does not"):
        judge_responses(3, tmp_path)


def test_rows_that_are_not_those_of_both_nights_break_a_promise(template, tmp_path):
    def judge_some():
        for seed in range(8):  # after some damages, rows are not shown but said to be lost
            judge_damage(seed, replace(template, rows=[]), tmp_path / str(seed))

    with pytest.raises(ViolationError, match=r"other rows are shown(.|\n)*, then (run|import)"):
        judge_some()


def test_torture_ends_with_the_first_hostile_case_that_fails_and_says_how_to_replay_just_that(tmp_path):
    never = {"NIMBLE_ETL_SOURCE__RETRY__TIMEOUT": "0.000001s"}

    done = torture("--hostile", "50", "--seed", "3", "--workers", "1", "--directory", str(tmp_path), **never)

    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("seed 3, 50 hostile cases, 1 at a time\n")
    assert "hostile case responses-3 breaks a promise:\na walk that must end well does not" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("-m torture --replay responses-3")
    (kept,) = tmp_path.iterdir()
    assert f"Its directory is {kept}" in done.stdout
    assert "streaming_sessions" in (kept / "log").read_text()
    again = torture("--replay", "responses-3", "--directory", str(tmp_path), **never)
    assert again.returncode == 1
    assert "a walk that must end well does not" in again.stdout
    assert torture("--replay", "responses-3", "--directory", str(tmp_path / "..")).returncode == 0


def test_torture_counts_the_hostile_cases_that_hold(tmp_path):
    done = torture("--hostile", "3", "--seed", "0", "--directory", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    *_, hostile, verdict = done.stdout.splitlines()
    assert sorted(hostile.replace(",", "").split()[2:]) == ["1", "1", "1", "damages", "dumps", "responses"]
    assert verdict == "0 lost, 0 doubled, 0 mixed"
    assert list(tmp_path.iterdir()) == []
