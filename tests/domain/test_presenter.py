"""What the service shows reaches the presenter that the composition root set, and nothing is lost before that."""

import pytest

from bot.domain.presenter import DeferredPresenter
from tests.support.fakes import FakePresenter


def test_calls_reach_the_presenter_that_was_set() -> None:
    deferred, presenter = DeferredPresenter(), FakePresenter()
    deferred.set(presenter)
    deferred.reply_changed("a reply")
    deferred.operator_notice("a matter", "a text")
    assert deferred.current is presenter
    assert (presenter.changed, presenter.notices) == (["a reply"], [("a matter", "a text")])


async def test_a_call_before_the_presenter_is_set_raises() -> None:
    deferred = DeferredPresenter()
    with pytest.raises(RuntimeError, match="before the presenter was set"):
        deferred.operator_notice("a matter", "a text")
    with pytest.raises(RuntimeError, match="before the presenter was set"):
        deferred.reply_changed("a reply")
    with pytest.raises(RuntimeError, match="before the presenter was set"):
        await deferred.ask_operator("a text", (), topic="a topic")
