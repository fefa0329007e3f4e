"""Files that are sent: their bytes go when nobody needs them any more, not when the garbage collector comes by."""

from __future__ import annotations

import gc
import weakref

import pytest
from discord.http import handle_message_parameters

from cogs.files import upload


@pytest.fixture(autouse=True)
def no_collector() -> object:
    gc.disable()
    yield
    gc.enable()


def test_a_file_that_was_sent_leaves_no_trace_in_memory() -> None:
    file = upload(b"a picture", "picture.png", "a lighthouse")
    stream = weakref.ref(file.fp)
    with handle_message_parameters(attachments=[file]) as parameters:
        assert parameters.files is not None
    del file, parameters
    assert stream() is None


def test_a_file_can_be_read_again_when_it_has_to_be_sent_again() -> None:
    file = upload(b"a picture", "picture.png")
    for attempt in range(2):
        file.reset(seek=attempt)
        assert file.fp.read() == b"a picture"
        file.fp.close()
