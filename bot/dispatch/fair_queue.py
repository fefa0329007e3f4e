"""The waiting line: jobs wait here for a free place at a provider, and every member's turn comes equally often."""

from __future__ import annotations

from collections import OrderedDict, deque


class FairQueue:
    """Round-robin by member: one job of each member in turn, each member's own jobs in the order they came.

    Taking and entering cost O(1); a job's place costs O(members waiting). Only ids are kept, so a waiting job is cheap.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[int, deque[str]] = OrderedDict()
        self._member_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._member_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._member_of

    def push(self, job_id: str, user_id: int, *, at_front: bool = False) -> None:
        """Wait behind the member's other jobs; `at_front` for a job that had its turn and was sent back."""
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
        """The job whose turn it is; its member goes to the end of the round."""
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
        """Give up waiting. False when the job was not in line."""
        user_id = self._member_of.pop(job_id, None)
        if user_id is None:
            return False
        waiting = self._turns[user_id]
        waiting.remove(job_id)
        if not waiting:
            del self._turns[user_id]
        return True

    def position(self, job_id: str) -> int | None:
        """How many jobs are taken up to and including this one (1 = next), if nobody joins or leaves."""
        user_id = self._member_of.get(job_id)
        if user_id is None:
            return None
        return self._count_until(user_id, self._turns[user_id].index(job_id))

    def position_of_next(self, user_id: int) -> int:
        """The place the member's next job would get."""
        return self._count_until(user_id, len(self._turns.get(user_id, ())))

    def upcoming(self, count: int) -> list[str]:
        """The next jobs in the order of their turns, if nobody joins or leaves."""
        found: list[str] = []
        for rounds in range(count):
            in_this_round = [waiting[rounds] for waiting in self._turns.values() if len(waiting) > rounds]
            found.extend(in_this_round)
            if len(found) >= count or not in_this_round:
                break
        return found[:count]

    def _count_until(self, user_id: int, own_before: int) -> int:
        """How many are taken up to the member's job that has `own_before` of their own before it."""
        place, passed_own_turn = own_before + 1, False
        for member, waiting in self._turns.items():
            if member == user_id:
                passed_own_turn = True
                continue
            # members ahead in the round take one turn more than those behind before that job's turn comes
            place += min(own_before if passed_own_turn else own_before + 1, len(waiting))
        return place
