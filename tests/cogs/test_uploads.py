"""Files that are sent: their bytes are freed with the last reference, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from discord.http import handle_message_parameters

from cogs.ui.attachments import CHUNK_BYTES, upload


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


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
async def test_every_attempt_sends_the_whole_file(size: int) -> None:
    data, received = bytes(range(256)) * (size // 256 + 1), list[bytes]()

    async def receive(request: web.Request) -> web.Response:
        form = await request.post()
        field = form["files[0]"]
        assert isinstance(field, web.FileField)
        assert (field.filename, field.content_type) == ("a.png", "application/octet-stream")
        received.append(field.file.read())
        return web.Response()

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/", receive)
    file = upload(data[:size], "a.png")
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("payload_json", "{}")
            form.add_field("files[0]", file.fp, filename="a.png", content_type="application/octet-stream")
            async with session.post(server.make_url("/"), data=form) as response:
                assert response.status == 200
    assert received == [data[:size]] * 2
