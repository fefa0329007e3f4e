"""The fair queue: members take turns, and positions say what happens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.dispatch.fair_queue import FairQueue

MEMBERS = st.integers(1, 5)
ENTRIES = st.lists(st.tuples(MEMBERS, st.booleans()), max_size=30)


def a_queue(entries: list[tuple[int, bool]]) -> FairQueue:
    """Return a queue that these members joined one after the other, some of them at the front."""
    queue = FairQueue()
    for number, (member, at_front) in enumerate(entries):
        queue.push(f"{member}.{number}", member, at_front=at_front)
    return queue


def drained(queue: FairQueue) -> list[str]:
    """Return all jobs, in order of turns."""
    return list(iter(queue.pop, None))


def plain(*members: int) -> FairQueue:
    return a_queue([(member, False) for member in members])


@pytest.mark.f30
@pytest.mark.f58
def test_members_take_turns_and_each_members_jobs_stay_in_order():
    assert drained(plain(1, 1, 1, 2, 3, 2)) == ["1.0", "2.3", "3.4", "1.1", "2.5", "1.2"]


def test_a_job_sent_back_is_the_very_next():
    queue = plain(1, 2, 2)
    sent_back = queue.pop()
    assert sent_back == "1.0"
    queue.push(sent_back, 1, at_front=True)
    assert drained(queue) == ["1.0", "2.1", "2.2"]


def test_a_job_pushed_twice_is_queued_once():
    queue = plain(1)
    queue.push("1.0", 1)
    queue.push("1.0", 1, at_front=True)
    assert len(queue) == 1
    assert drained(queue) == ["1.0"]


def test_an_empty_queue_pops_nothing_and_its_next_position_is_the_first():
    queue = FairQueue()
    assert queue.pop() is None
    assert drained(queue) == []
    assert len(queue) == 0
    assert queue.position("unknown") is None
    assert queue.position_of_next(1) == 1


def test_a_removed_job_is_not_popped_and_can_be_removed_only_once():
    queue = plain(1, 1, 2)
    assert "1.0" in queue
    assert queue.remove("1.0")
    assert not queue.remove("1.0")
    assert queue.remove("2.2")
    assert "1.0" not in queue
    assert drained(queue) == ["1.1"]


@pytest.mark.f30
@given(ENTRIES, st.data())
def test_a_position_is_how_many_pops_it_takes(entries: list[tuple[int, bool]], data: st.DataObject):
    queue = a_queue(entries)
    for _ in range(data.draw(st.integers(0, len(entries)))):
        queue.pop()
    positions = {
        job_id: queue.position(job_id) for job_id in (f"{m}.{n}" for n, (m, _) in enumerate(entries)) if job_id in queue
    }
    order = drained(queue)
    assert positions == {job_id: position for position, job_id in enumerate(order, start=1)}


@given(ENTRIES, MEMBERS)
def test_the_position_of_the_next_job_is_the_one_it_gets(entries: list[tuple[int, bool]], member: int):
    queue = a_queue(entries)
    promised = queue.position_of_next(member)
    queue.push("new", member)
    assert queue.position("new") == promised


@given(st.lists(MEMBERS, min_size=1, max_size=40))
def test_no_member_is_served_twice_while_another_waits_for_a_first_turn(members: list[int]):
    queue = plain(*members)
    waiting = Counter(members)
    taken: Counter[int] = Counter()
    while (job_id := queue.pop()) is not None:
        member = int(job_id.split(".")[0])
        taken[member] += 1
        for other in waiting:
            if other != member and taken[other] < waiting[other]:
                assert taken[member] <= taken[other] + 1


@given(ENTRIES, st.sets(st.integers(0, 29)))
def test_every_job_is_popped_once_unless_it_was_removed(entries: list[tuple[int, bool]], leaving: set[int]):
    queue = a_queue(entries)
    ids = [f"{member}.{number}" for number, (member, _) in enumerate(entries)]
    left = {ids[number] for number in leaving if number < len(ids)}
    for job_id in left:
        assert queue.remove(job_id)
    assert sorted(drained(queue)) == sorted(set(ids) - left)


@given(ENTRIES, st.integers(0, 40))
def test_the_upcoming_jobs_are_those_that_are_popped_next(entries: list[tuple[int, bool]], count: int):
    queue = a_queue(entries)
    promised = queue.upcoming(count)
    assert promised == drained(queue)[:count]
