"""FairQueue: jobs that wait for a slot at a provider; servers take turns, and in each server its members."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Container, Iterable, Sequence

from bot.domain.requester import Requester


class FairQueue:
    """A round-robin queue: one job of each server in turn; for a server one of each member in turn, in their order.

    `push` and `pop` cost O(1), a position O(members of the server + servers). Only ids are kept, so a queued job is
    cheap.
    """

    def __init__(self) -> None:
        self._servers: OrderedDict[int, OrderedDict[int, deque[str]]] = OrderedDict()
        self._jobs_of_server: Counter[int] = Counter()
        self._requester_of: dict[str, Requester] = {}

    def __len__(self) -> int:
        return len(self._requester_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._requester_of

    def push(self, job_id: str, requester: Requester, *, at_front: bool = False) -> None:
        """Queue a job behind the member's other jobs; `at_front` for a job that had its turn and was sent back."""
        if job_id in self._requester_of:
            return
        members = self._servers.setdefault(requester.server_id, OrderedDict())
        waiting = members.setdefault(requester.user_id, deque())
        if at_front:
            waiting.appendleft(job_id)
            members.move_to_end(requester.user_id, last=False)
            self._servers.move_to_end(requester.server_id, last=False)
        else:
            waiting.append(job_id)
        self._requester_of[job_id] = requester
        self._jobs_of_server[requester.server_id] += 1

    def pop(self) -> str | None:
        """Remove and return the next job, or None; its server and its member go to the ends of their rounds."""
        found = self.pop_of_others(())
        return None if found is None else found[0]

    def pop_of_others(self, passed_over: Container[int]) -> tuple[str, Requester] | None:
        """Remove and return the next job of a server that is not passed over, with its requester; None for none."""
        server_id = next((server_id for server_id in self._servers if server_id not in passed_over), None)
        if server_id is None:
            return None
        members = self._servers[server_id]
        user_id, waiting = next(iter(members.items()))
        job_id = waiting[0]
        self._servers.move_to_end(server_id)
        members.move_to_end(user_id)
        self.remove(job_id)
        return job_id, Requester(server_id, user_id)

    def remove(self, job_id: str) -> bool:
        """Remove a job. False when it was not queued."""
        requester = self._requester_of.pop(job_id, None)
        if requester is None:
            return False
        server_id, user_id = requester
        members = self._servers[server_id]
        members[user_id].remove(job_id)
        self._jobs_of_server[server_id] -= 1
        if not members[user_id]:
            del members[user_id]
        if not members:
            del self._servers[server_id], self._jobs_of_server[server_id]
        return True

    def position(self, job_id: str) -> int | None:
        """Return how many pops it takes to get this job (1 = next) if the queue does not change; None if not queued."""
        requester = self._requester_of.get(job_id)
        if requester is None:
            return None
        return self._position(requester, self._servers[requester.server_id][requester.user_id].index(job_id))

    def position_of_next(self, requester: Requester) -> int:
        """Return the position the member's next job would get."""
        return self._position(requester, len(self._members(requester).get(requester.user_id, ())))

    def upcoming(self, count: int) -> list[str]:
        """Return the next jobs in the order of their turns, if the queue does not change."""
        return _in_turn([_in_turn(members.values(), count) for members in self._servers.values()], count)

    def _members(self, requester: Requester) -> OrderedDict[int, deque[str]]:
        return self._servers.get(requester.server_id, OrderedDict())

    def _position(self, requester: Requester, own_before: int) -> int:
        """Return the position of the member's job that has `own_before` jobs of the same member before it."""
        members = self._members(requester)
        if requester.user_id in members:
            waiting = ((user_id, len(job_ids)) for user_id, job_ids in members.items())
            before_in_server = _count_before(requester.user_id, own_before, waiting)
        else:
            before_in_server = len(members)  # one job of each
        servers = ((server_id, self._jobs_of_server[server_id]) for server_id in self._servers)
        return 1 + _count_before(requester.server_id, before_in_server, servers)


def _count_before(own_id: int, own_before: int, waiting: Iterable[tuple[int, int]]) -> int:
    """Count the turns before the one of `own_id` that comes after `own_before` of its own.

    `waiting` has the ids in the order of their turns, each with the number of turns it still takes.
    """
    count, passed_own_turn = own_before, False
    for other_id, turns in waiting:
        if other_id == own_id:
            passed_own_turn = True
            continue
        # Those ahead in the round take one turn more than those behind before that one comes.
        count += min(own_before if passed_own_turn else own_before + 1, turns)
    return count


def _in_turn(queues: Collection[Sequence[str]], count: int) -> list[str]:
    """Return the first `count` jobs of queues that take turns."""
    found: list[str] = []
    for rounds in range(count):
        in_this_round = [waiting[rounds] for waiting in queues if len(waiting) > rounds]
        found.extend(in_this_round)
        if len(found) >= count or not in_this_round:
            break
    return found[:count]
