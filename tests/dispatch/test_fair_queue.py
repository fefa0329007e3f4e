"""The fair queue: servers take turns, and their members, and positions say what happens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.dispatch.fair_queue import FairQueue
from bot.domain.requester import Requester

ADA = Requester(1, 1)

MEMBERS = st.integers(1, 5)
REQUESTERS = st.builds(Requester, server_id=st.integers(1, 3), user_id=MEMBERS)
ENTRIES = st.lists(st.tuples(REQUESTERS, st.booleans()), max_size=30)


def name(requester: Requester, number: int) -> str:
    return f"{requester.server_id}:{requester.user_id}.{number}"


def a_queue(entries: list[tuple[Requester, bool]]) -> FairQueue:
    """Return a queue that these members joined one after the other, some of them at the front."""
    queue = FairQueue()
    for number, (requester, at_front) in enumerate(entries):
        queue.push(name(requester, number), requester, at_front=at_front)
    return queue


def drained(queue: FairQueue) -> list[str]:
    """Return all jobs, in order of turns."""
    return list(iter(queue.pop, None))


def plain(*members: int, server_id: int = 1) -> FairQueue:
    return a_queue([(Requester(server_id, member), False) for member in members])


@pytest.mark.f30
@pytest.mark.f58
def test_members_take_turns_and_each_members_jobs_stay_in_order():
    assert drained(plain(1, 1, 1, 2, 3, 2)) == ["1:1.0", "1:2.3", "1:3.4", "1:1.1", "1:2.5", "1:1.2"]


def test_a_job_sent_back_is_the_very_next():
    queue = plain(1, 2, 2)
    sent_back = queue.pop()
    assert sent_back == "1:1.0"
    queue.push(sent_back, ADA, at_front=True)
    assert drained(queue) == ["1:1.0", "1:2.1", "1:2.2"]


def test_a_job_pushed_twice_is_queued_once():
    queue = plain(1)
    queue.push("1:1.0", ADA)
    queue.push("1:1.0", ADA, at_front=True)
    assert len(queue) == 1
    assert drained(queue) == ["1:1.0"]


def test_an_empty_queue_pops_nothing_and_its_next_position_is_the_first():
    queue = FairQueue()
    assert queue.pop() is None
    assert drained(queue) == []
    assert len(queue) == 0
    assert queue.position("unknown") is None
    assert queue.position_of_next(ADA) == 1


def test_a_removed_job_is_not_popped_and_can_be_removed_only_once():
    queue = plain(1, 1, 2)
    assert "1:1.0" in queue
    assert queue.remove("1:1.0")
    assert not queue.remove("1:1.0")
    assert queue.remove("1:2.2")
    assert "1:1.0" not in queue
    assert drained(queue) == ["1:1.1"]


@pytest.mark.f30
@given(ENTRIES, st.data())
def test_a_position_is_how_many_pops_it_takes(entries: list[tuple[Requester, bool]], data: st.DataObject):
    queue = a_queue(entries)
    for _ in range(data.draw(st.integers(0, len(entries)))):
        queue.pop()
    positions = {
        job_id: queue.position(job_id) for job_id in (name(r, n) for n, (r, _) in enumerate(entries)) if job_id in queue
    }
    order = drained(queue)
    assert positions == {job_id: position for position, job_id in enumerate(order, start=1)}


@given(ENTRIES, REQUESTERS)
def test_the_position_of_the_next_job_is_the_one_it_gets(entries: list[tuple[Requester, bool]], requester: Requester):
    queue = a_queue(entries)
    promised = queue.position_of_next(requester)
    queue.push("new", requester)
    assert queue.position("new") == promised


@given(st.lists(MEMBERS, min_size=1, max_size=40))
def test_no_member_is_served_twice_while_another_waits_for_a_first_turn(members: list[int]):
    queue = plain(*members)
    waiting = Counter(members)
    taken: Counter[int] = Counter()
    while (job_id := queue.pop()) is not None:
        member = int(job_id.split(":")[1].split(".")[0])
        taken[member] += 1
        for other in waiting:
            if other != member and taken[other] < waiting[other]:
                assert taken[member] <= taken[other] + 1


@given(ENTRIES, st.sets(st.integers(0, 29)))
def test_every_job_is_popped_once_unless_it_was_removed(entries: list[tuple[Requester, bool]], leaving: set[int]):
    queue = a_queue(entries)
    ids = [name(requester, number) for number, (requester, _) in enumerate(entries)]
    left = {ids[number] for number in leaving if number < len(ids)}
    for job_id in left:
        assert queue.remove(job_id)
    assert sorted(drained(queue)) == sorted(set(ids) - left)


@given(ENTRIES, st.integers(0, 40))
def test_the_upcoming_jobs_are_those_that_are_popped_next(entries: list[tuple[Requester, bool]], count: int):
    queue = a_queue(entries)
    promised = queue.upcoming(count)
    assert promised == drained(queue)[:count]


def test_a_server_waits_for_no_more_than_one_job_of_each_other_server():
    queue = FairQueue()
    for number in range(100):
        queue.push(f"crowd.{number}", Requester(1, number % 50))
    for server_id in (2, 3):
        for number in range(2):
            queue.push(f"{server_id}.{number}", Requester(server_id, 7))
    order = drained(queue)
    assert [job_id for job_id in order[:6] if not job_id.startswith("crowd")] == ["2.0", "3.0", "2.1", "3.1"]
    assert order[0] == "crowd.0"


def test_outside_servers_each_person_takes_turns_like_a_server():
    queue = FairQueue()
    for number in range(10):
        queue.push(f"crowd.{number}", Requester.of(1, number))
    queue.push("direct.1", Requester.of(0, 100))
    queue.push("direct.2", Requester.of(0, 101))
    assert drained(queue)[:4] == ["crowd.0", "direct.1", "direct.2", "crowd.1"]


@given(st.lists(REQUESTERS, max_size=40))
def test_no_server_is_served_twice_while_another_waits_for_its_turn(requesters: list[Requester]):
    queue = a_queue([(requester, False) for requester in requesters])
    left = Counter(requester.server_id for requester in requesters)
    last: dict[int, int] = {}
    for turn, job_id in enumerate(drained(queue)):
        server_id = int(job_id.split(":")[0])
        for other, count in left.items():
            if other != server_id and count:
                assert last.get(other, -1) >= last.get(server_id, -1)
        last[server_id] = turn
        left[server_id] -= 1
