"""The waiting line: every member's turn comes equally often, and what is said about places is what happens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.dispatch.fair_queue import FairQueue

MEMBERS = st.integers(1, 5)
ENTRIES = st.lists(st.tuples(MEMBERS, st.booleans()), max_size=30)


def a_line(entries: list[tuple[int, bool]]) -> FairQueue:
    """A line that these members joined one after the other, some of them at the front."""
    line = FairQueue()
    for number, (member, at_front) in enumerate(entries):
        line.push(f"{member}.{number}", member, at_front=at_front)
    return line


def drained(line: FairQueue) -> list[str]:
    """Everybody, in order of turns."""
    return list(iter(line.pop, None))


def plain(*members: int) -> FairQueue:
    return a_line([(member, False) for member in members])


@pytest.mark.f30
@pytest.mark.f58
def test_members_take_turns_and_each_members_jobs_stay_in_order():
    assert drained(plain(1, 1, 1, 2, 3, 2)) == ["1.0", "2.3", "3.4", "1.1", "2.5", "1.2"]


def test_a_job_sent_back_is_the_very_next():
    line = plain(1, 2, 2)
    sent_back = line.pop()
    assert sent_back == "1.0"
    line.push(sent_back, 1, at_front=True)
    assert drained(line) == ["1.0", "2.1", "2.2"]


def test_entering_twice_is_waiting_once():
    line = plain(1)
    line.push("1.0", 1)
    line.push("1.0", 1, at_front=True)
    assert len(line) == 1
    assert drained(line) == ["1.0"]


def test_an_empty_line_has_nobody_and_a_place_for_anybody():
    line = FairQueue()
    assert line.pop() is None
    assert drained(line) == []
    assert len(line) == 0
    assert line.position("nobody") is None
    assert line.position_of_next(1) == 1


def test_who_leaves_is_not_taken_and_can_leave_only_once():
    line = plain(1, 1, 2)
    assert "1.0" in line
    assert line.remove("1.0")
    assert not line.remove("1.0")
    assert line.remove("2.2")
    assert "1.0" not in line
    assert drained(line) == ["1.1"]


@pytest.mark.f30
@given(ENTRIES, st.data())
def test_the_place_told_is_the_place_taken(entries: list[tuple[int, bool]], data: st.DataObject):
    line = a_line(entries)
    for _ in range(data.draw(st.integers(0, len(entries)))):
        line.pop()
    places = {
        job_id: line.position(job_id) for job_id in (f"{m}.{n}" for n, (m, _) in enumerate(entries)) if job_id in line
    }
    order = drained(line)
    assert places == {job_id: place for place, job_id in enumerate(order, start=1)}


@given(ENTRIES, MEMBERS)
def test_the_place_promised_to_the_next_job_is_the_one_it_gets(entries: list[tuple[int, bool]], member: int):
    line = a_line(entries)
    promised = line.position_of_next(member)
    line.push("new", member)
    assert line.position("new") == promised


@given(st.lists(MEMBERS, min_size=1, max_size=40))
def test_nobody_is_taken_twice_while_somebody_waits_for_a_first_turn(members: list[int]):
    line = plain(*members)
    waiting = Counter(members)
    taken: Counter[int] = Counter()
    while (job_id := line.pop()) is not None:
        member = int(job_id.split(".")[0])
        taken[member] += 1
        for other in waiting:
            if other != member and taken[other] < waiting[other]:
                assert taken[member] <= taken[other] + 1


@given(ENTRIES, st.sets(st.integers(0, 29)))
def test_everybody_is_taken_once_unless_they_left(entries: list[tuple[int, bool]], leaving: set[int]):
    line = a_line(entries)
    ids = [f"{member}.{number}" for number, (member, _) in enumerate(entries)]
    left = {ids[number] for number in leaving if number < len(ids)}
    for job_id in left:
        assert line.remove(job_id)
    assert sorted(drained(line)) == sorted(set(ids) - left)


@given(ENTRIES, st.integers(0, 40))
def test_the_upcoming_jobs_are_those_that_are_taken_next(entries: list[tuple[int, bool]], count: int):
    line = a_line(entries)
    promised = line.upcoming(count)
    assert promised == drained(line)[:count]
