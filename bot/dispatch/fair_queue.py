"""FairQueue: jobs that wait for a slot at a provider; members take turns, however many jobs each of them queued."""

from __future__ import annotations

from collections import OrderedDict, deque


class FairQueue:
    """A round-robin queue: one job of each member in turn, each member's own jobs in the order they came.

    `push` and `pop` cost O(1), a position O(members waiting). Only ids are kept, so a queued job is cheap.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[int, deque[str]] = OrderedDict()
        self._member_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._member_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._member_of

    def push(self, job_id: str, user_id: int, *, at_front: bool = False) -> None:
        """Queue a job behind the member's other jobs; `at_front` for a job that had its turn and was sent back."""
        if job_id in self._member_of:
            return
        waiting = self._turns.setdefault(user_id, deque())
        if at_front:
            waiting.appendleft(job_id)
            self._turns.move_to_end(user_id, last=False)
        else:
            waiting.append(job_id)
        self._member_of[job_id] = user_id

    def pop(self) -> str | None:
        """Remove and return the next job, or None; its member goes to the end of the round."""
        if not self._turns:
            return None
        user_id, waiting = next(iter(self._turns.items()))
        job_id = waiting.popleft()
        if waiting:
            self._turns.move_to_end(user_id)
        else:
            del self._turns[user_id]
        del self._member_of[job_id]
        return job_id

    def remove(self, job_id: str) -> bool:
        """Remove a job. False when it was not queued."""
        user_id = self._member_of.pop(job_id, None)
        if user_id is None:
            return False
        waiting = self._turns[user_id]
        waiting.remove(job_id)
        if not waiting:
            del self._turns[user_id]
        return True

    def position(self, job_id: str) -> int | None:
        """Return how many pops it takes to get this job (1 = next) if the queue does not change; None if not queued."""
        user_id = self._member_of.get(job_id)
        if user_id is None:
            return None
        return self._count_until(user_id, self._turns[user_id].index(job_id))

    def position_of_next(self, user_id: int) -> int:
        """Return the position the member's next job would get."""
        return self._count_until(user_id, len(self._turns.get(user_id, ())))

    def upcoming(self, count: int) -> list[str]:
        """Return the next jobs in the order of their turns, if the queue does not change."""
        found: list[str] = []
        for rounds in range(count):
            in_this_round = [waiting[rounds] for waiting in self._turns.values() if len(waiting) > rounds]
            found.extend(in_this_round)
            if len(found) >= count or not in_this_round:
                break
        return found[:count]

    def _count_until(self, user_id: int, own_before: int) -> int:
        """Count the pops up to the member's job that has `own_before` jobs of the same member before it."""
        position, passed_own_turn = own_before + 1, False
        for member, waiting in self._turns.items():
            if member == user_id:
                passed_own_turn = True
                continue
            # Members ahead in the round take one turn more than those behind before the turn of that job comes.
            position += min(own_before if passed_own_turn else own_before + 1, len(waiting))
        return position
