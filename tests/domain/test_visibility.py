"""Visibility: who may see the images of an order and act on it, in each state of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.domain.jobs import JobStatus, Reply, ReviewState
from bot.domain.visibility import Action, Person, Refusal, why_refused, why_withheld
from tests.support.store_samples import NOON, a_command

QUEUED, MADE, FAILED = JobStatus.QUEUED, JobStatus.SUCCEEDED, JobStatus.FAILED
WAITING, APPROVED, REFUSED = ReviewState.WAITING, ReviewState.APPROVED, ReviewState.REFUSED

MAY, WAIT, NO, NOT_YOURS, PRIVATE = (
    None,
    Refusal.NOT_REVIEWED,
    Refusal.REFUSED_BY_REVIEW,
    Refusal.NOT_YOURS,
    Refusal.PRIVATE,
)
MEMBER, MODERATOR, ONLOOKER, STRANGER = Person
END, USE, ORDER = Action.END, Action.USE, Action.ORDER


def an_order(*statuses: JobStatus, review: ReviewState | None, private: bool = False, deleted: bool = False) -> Reply:
    reply = a_command(*[80_000] * len(statuses))
    return replace(
        reply,
        jobs=tuple(replace(job, status=status) for job, status in zip(reply.jobs, statuses, strict=True)),
        review=review,
        address=replace(reply.address, private=private),
        deleted_at=NOON if deleted else None,
    )


@pytest.mark.parametrize(
    ("reply", "is_shown", "use", "order"),
    [
        # What MEMBER, MODERATOR and ONLOOKER are told who want to USE its images or ORDER from it.
        (an_order(QUEUED, review=None), True, [MAY, MAY, NOT_YOURS], [MAY, MAY, NOT_YOURS]),
        (an_order(FAILED, review=None), True, [MAY, MAY, NOT_YOURS], [MAY, MAY, NOT_YOURS]),
        (an_order(MADE, review=None), True, [MAY, MAY, MAY], [MAY, MAY, NOT_YOURS]),
        (an_order(MADE, review=APPROVED), True, [MAY, MAY, MAY], [MAY, MAY, NOT_YOURS]),
        (an_order(QUEUED, review=WAITING), False, [MAY, MAY, NOT_YOURS], [MAY, MAY, NOT_YOURS]),
        (an_order(FAILED, FAILED, review=WAITING), False, [MAY, MAY, NOT_YOURS], [MAY, MAY, NOT_YOURS]),
        (an_order(MADE, QUEUED, review=WAITING), False, [WAIT] * 3, [WAIT] * 3),
        (an_order(MADE, FAILED, review=WAITING), False, [WAIT] * 3, [WAIT] * 3),
        (an_order(MADE, review=WAITING), False, [WAIT] * 3, [WAIT] * 3),
        (an_order(MADE, review=REFUSED), False, [NO] * 3, [NO] * 3),
        (an_order(MADE, review=None, private=True), True, [MAY, PRIVATE, NOT_YOURS], [MAY, PRIVATE, NOT_YOURS]),
        (an_order(MADE, review=None, deleted=True), True, [MAY, MAY, NOT_YOURS], [MAY, MAY, NOT_YOURS]),
    ],
)
def test_who_may_do_what_in_each_state(
    reply: Reply, is_shown: bool, use: list[Refusal | None], order: list[Refusal | None]
) -> None:
    assert reply.is_held_back is not is_shown
    people = [MEMBER, MODERATOR, ONLOOKER]
    assert [why_refused(reply, person, USE) for person in people] == use
    assert [why_refused(reply, person, ORDER) for person in people] == order
    assert [why_refused(reply, person, END) for person in Person] == [MAY, MAY, NOT_YOURS, NOT_YOURS]
    assert all(why_refused(reply, STRANGER, action) for action in Action)


@pytest.mark.parametrize("review", ReviewState)
@pytest.mark.parametrize("person", Person)
@pytest.mark.parametrize("action", [USE, ORDER])
def test_nobody_uses_images_that_are_not_shown(person: Person, review: ReviewState, action: Action) -> None:
    reply = an_order(MADE, review=review)
    assert (why_withheld(reply) is not None) is reply.is_held_back
    assert not reply.is_held_back or why_refused(reply, person, action) is why_withheld(reply)
