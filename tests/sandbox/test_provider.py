"""The simulated provider keeps the documented contracts, bills the documented prices and draws what was ordered."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from PIL import Image, ImageChops, ImageStat
from yarl import URL

from sandbox.contracts import Contract, contracts
from sandbox.drawing import FIGURES, Sketch, draw, encode, preview
from sandbox.plans import Ending, FileTrouble, How, Plan, Trouble
from sandbox.provider import SandboxProvider

FLUX = "/generate/image/bfl/flux-1-dev"
NANO = "/generate/image/google/nano-banana-2"
PIXAZO = "/krea-2-large-text-to-image/v1/krea-2-large-text-to-image-request"


class Client:
    """Sends requests to the simulated APIs without any of the bot's code."""

    def __init__(self, sandbox: SandboxProvider, session: aiohttp.ClientSession) -> None:
        self.sandbox, self.session = sandbox, session

    async def order(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.session.post(
            self.sandbox.krea_base + path, json=body, headers=self._keys(path) | headers
        ) as response:
            return response.status, await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.sandbox.krea_base + path, headers=self._keys(path) | headers) as response:
            return response.status, await response.json()

    async def upload(self, data: bytes, content_type: str = "image/png") -> tuple[int, Any]:
        form = aiohttp.FormData()
        form.add_field("file", data, filename="x", content_type=content_type)
        async with self.session.post(
            f"{self.sandbox.krea_base}/assets", data=form, headers=self._keys("/assets")
        ) as response:
            return response.status, await response.json()

    async def finish(self, path: str, body: Any) -> Any:
        status, job = await self.order(path, body)
        assert status in (200, 202), job
        remote_id = job.get("job_id") or job["request_id"]
        place = f"/jobs/{remote_id}" if "job_id" in job else f"/v2/requests/status/{remote_id}"
        for _ in range(200):
            _, job = await self.get(place)
            if job["status"].lower() in ("completed", "failed", "cancelled", "error"):
                return job
            await asyncio.sleep(0.002)
        raise AssertionError(f"never finished: {job}")

    async def image(self, url: str) -> Image.Image:
        async with self.session.get(url) as response:
            assert response.status == 200
            return Image.open(io.BytesIO(await response.read()))

    def _keys(self, path: str) -> dict[str, str]:
        if path.startswith(("/generate", "/jobs", "/assets", "/styles")):
            return {"Authorization": f"Bearer {self.sandbox.krea_key}"}
        return {"Ocp-Apim-Subscription-Key": self.sandbox.pixazo_key}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with SandboxProvider(seconds_scale=0.0) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox, session)


def a_png(colour: str = "teal", size: tuple[int, int] = (96, 64)) -> bytes:
    return encode(Image.new("RGB", size, colour))


def a_value(rule: dict[str, Any], url: str) -> Any:
    if "enum" in rule:
        return rule["enum"][0]
    kind = rule["type"].partition("|")[0]
    if kind == "array":
        return [a_value(rule["items"], url)] * rule.get("min_items", 0)
    if kind == "object":
        return {name: a_value(inner, url) for name, inner in rule["properties"].items() if inner.get("required")}
    if kind == "string":
        return url if rule.get("format") == "url" else "fox" if "pattern" in rule else "a fox in the snow"
    return {"boolean": False}.get(kind, max(rule.get("min", 0), min(rule.get("max", 64), 64)))


def the_least(contract: Contract, url: str) -> dict[str, Any]:
    return {name: a_value(dict(rule), url) for name, rule in contract.fields.items() if rule.get("required")}


@pytest.mark.parametrize("path", sorted(contracts()))
async def test_each_route_takes_the_least_and_refuses_what_it_does_not_know(client: Client, path: str) -> None:
    contract = contracts()[path]
    _, asset = await client.upload(a_png())
    body = the_least(contract, asset["image_url"])
    status, answer = await client.order(path, body)
    assert status in (200, 202), answer
    wrong: list[dict[str, Any]] = [body | {"colour": "red"}, {**body, "prompt": 7}]
    wrong += [body | {alias: "x"} for alias in contract.aliases]
    wrong += [{key: value for key, value in body.items() if key != name} for name in body]
    for name, rule in contract.fields.items():
        if "enum" in rule:
            wrong.append(body | {name: "no such value"})
        if "max" in rule:
            wrong.append(body | {name: rule["max"] + 1})
        if rule["type"].startswith("integer"):
            wrong.append(body | {name: 1.5})
        if "max_items" in rule:
            wrong.append(body | {name: [a_value(dict(rule["items"]), asset["image_url"])] * (rule["max_items"] + 1)})
    for bad in wrong:
        status, answer = await client.order(path, bad)
        assert status == 400, (bad, answer)
        assert answer["error"]


@pytest.mark.parametrize(
    ("path", "body", "micros"),
    [
        (FLUX, {"prompt": "x"}, 7_000),
        (NANO, {"prompt": "fox"}, 80_000),
        (NANO, {"prompt": "fox", "resolution": "2K"}, 120_000),
        (NANO, {"prompt": "fox", "resolution": "4K"}, 160_000),
        ("/generate/image/google/nano-banana-pro", {"prompt": "fox", "resolution": "4K"}, 300_000),
        (PIXAZO, {"prompt": "fox"}, 60_000),
        ("/generate/image/qwen/2512", {"prompt": "fox"}, 50_000),
    ],
)
async def test_a_completed_job_costs_its_published_price(client: Client, path: str, body: Any, micros: int) -> None:
    await client.finish(path, body)
    assert client.sandbox.bill_usd_micros == micros


async def test_references_and_moodboards_cost_what_the_table_says(client: Client) -> None:
    _, asset = await client.upload(a_png())
    large = {"prompt": "fox", "aspect_ratio": "1:1", "resolution": "1K"}
    reference = {"image_style_references": [{"url": asset["image_url"]}]}
    board = {"moodboards": [{"id": "0f8fad5b-d9cb-469f-a165-70867728950e"}]}
    contract = contracts()["/generate/image/krea/krea-2/large"]
    assert contract.price_usd_micros(large) == 60_000
    assert contract.price_usd_micros(large | reference) == 65_000
    assert contract.price_usd_micros(large | board) == 70_000
    assert contract.price_usd_micros(large | board | reference) == 70_000
    assert contracts()[PIXAZO].price_usd_micros({"prompt": "fox", **board}) is None
    await client.finish(PIXAZO, {"prompt": "fox", "image_style_references": [{"image_url": asset["image_url"]}]})
    assert client.sandbox.bill_usd_micros == 65_000


async def test_failed_and_cancelled_jobs_cost_nothing(client: Client) -> None:
    client.sandbox.next_order(*(Plan(ending=ending) for ending in (Ending.FAILED, Ending.MODERATED, Ending.CANCELLED)))
    for _ in range(3):
        await client.finish(FLUX, {"prompt": "x"})
    assert client.sandbox.bill_usd_micros == 0
    client.sandbox.next_order(Plan(ending=Ending.FAILED, bills_failure=True))
    await client.finish(PIXAZO, {"prompt": "x"})
    assert client.sandbox.bill_usd_micros == 60_000


async def test_keys_are_checked_and_strayed_ones_noted(client: Client) -> None:
    sandbox = client.sandbox
    assert (await client.order(FLUX, {"prompt": "x"}, Authorization="Bearer no"))[0] == 401
    assert (await client.order(PIXAZO, {"prompt": "x"}, **{"Ocp-Apim-Subscription-Key": "no"}))[0] == 401
    assert sandbox.violations == []
    await client.order(PIXAZO, {"prompt": "x"}, Authorization="Bearer x")
    job = await client.finish(FLUX, {"prompt": "x"})
    async with client.session.get(job["result"]["urls"][0], headers={"Authorization": "Bearer x"}) as response:
        assert response.status == 200
    assert len(sandbox.violations) == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.png", "ftp://x/y.png", "not a url"])
async def test_inputs_it_cannot_reach_are_refused(client: Client, url: str) -> None:
    status, answer = await client.order(FLUX, {"prompt": "x", "image_url": url})
    assert status in (400, 422)
    assert "url" in answer["error"].lower()
    assert client.sandbox.jobs == {}


async def test_inputs_elsewhere_are_fetched_and_must_be_pictures(client: Client) -> None:
    async def serve(request: web.BaseRequest) -> web.Response:
        return web.Response(body=a_png() if request.path == "/a.png" else b"<html>", content_type="image/png")

    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert (await client.order(FLUX, {"prompt": "x", "image_url": f"{base}/a.png"}))[0] == 200
    assert (await client.order(FLUX, {"prompt": "x", "image_url": f"{base}/b.png"}))[0] == 422
    await runner.cleanup()


async def test_uploads_are_checked(client: Client) -> None:
    status, asset = await client.upload(a_png(size=(96, 64)))
    assert (status, asset["width"], asset["height"], asset["mime_type"]) == (200, 96, 64, "image/png")
    assert (await client.upload(a_png(), "image/jpg"))[0] == 400
    assert (await client.upload(b"GIF89a"))[0] == 400
    assert (await client.image(asset["image_url"])).size == (96, 64)


async def test_a_client_that_dies_in_the_middle_of_an_upload_leaves_nothing_open(client: Client) -> None:
    """Check that no file stays open: an unreferenced open file is a warning, and warnings are errors here."""
    place = URL(client.sandbox.krea_base) / "assets"
    _, writer = await asyncio.open_connection(place.host, place.port)
    head = f"POST {place.path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {client.sandbox.krea_key}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
    part = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    writer.write(f"{head}{part}{'a' * 40_000}".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    assert (await client.upload(a_png()))[0] == 200
    gc.collect()


async def test_an_empty_balance_refuses_new_orders(client: Client) -> None:
    client.sandbox.balance_usd_micros = 10_000
    await client.finish(FLUX, {"prompt": "x"})
    await asyncio.sleep(0.01)
    assert client.sandbox.balance_usd_micros == 3_000
    assert (await client.order(FLUX, {"prompt": "x"}))[0] == 402


async def test_more_jobs_than_allowed_wait_and_then_are_refused() -> None:
    async with (
        SandboxProvider(steps_by_reads=True, concurrency=2, backlog=1) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        client = Client(sandbox, session)
        statuses = [await client.order(FLUX, {"prompt": "x"}) for _ in range(4)]
        assert [status for status, _ in statuses] == [200, 200, 200, 429]
        assert [job["status"] for _, job in statuses[:3]] == ["queued", "queued", "backlogged"]
        assert sandbox.peak_in_flight == 3


async def test_the_end_is_called_back_where_asked(client: Client) -> None:
    calls: asyncio.Queue[Any] = asyncio.Queue()

    async def hear(request: web.Request) -> web.Response:
        await calls.put(await request.json())
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/hooks/secret", hear)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook = {"X-Webhook-URL": f"http://127.0.0.1:{runner.addresses[0][1]}/hooks/secret"}
    client.sandbox.next_order(Plan(webhook_copies=2), Plan(ending=Ending.ERROR))
    _, accepted = await client.order(FLUX, {"prompt": "x"}, **hook)
    for _ in range(2):
        call = await asyncio.wait_for(calls.get(), 5)
        assert (call["job_id"], call["status"]) == (accepted["job_id"], "completed")
    await client.order(PIXAZO, {"prompt": "x"}, **hook)
    assert (await asyncio.wait_for(calls.get(), 5))["status"] == "ERROR"
    await runner.cleanup()


async def test_words_in_a_prompt_choose_the_plan(client: Client) -> None:
    assert (await client.finish(FLUX, {"prompt": "a fox [fail]"}))["status"] == "failed"
    moderated = await client.finish(FLUX, {"prompt": "a fox [NSFW]"})
    assert moderated["error"]["code"] == "nsfw"
    assert (await client.order(FLUX, {"prompt": "a fox [refuse]"}))[0] == 422
    busy = [(await client.order(FLUX, {"prompt": "a fox [busy]"}))[0] for _ in range(4)]
    assert busy == [429, 429, 429, 200], "it ends"
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.order(FLUX, {"prompt": "a fox [lost]"})
    assert len(client.sandbox.jobs) == 4, "a lost order was taken all the same"


async def test_troubles_are_answered_once_each(client: Client) -> None:
    client.sandbox.next_answers("list", Trouble(status=503), Trouble(how=How.RESET))
    assert (await client.get("/jobs"))[0] == 503
    # aiohttp repeats a GET on a broken connection by itself, so the second fault may or may not be visible.
    with contextlib.suppress(aiohttp.ClientError):
        await client.get("/jobs")
    assert (await client.get("/jobs"))[0] == 200


@pytest.mark.parametrize(
    ("trouble", "status"), [(FileTrouble.MISSING, 404), (FileTrouble.HTML, 200), (FileTrouble.REDIRECT, 302)]
)
async def test_finished_files_can_be_wrong(client: Client, trouble: FileTrouble, status: int) -> None:
    client.sandbox.next_order(Plan(file_trouble=trouble, redirect_to="http://127.0.0.1:1/private"))
    url = (await client.finish(FLUX, {"prompt": "x"}))["result"]["urls"][0]
    async with client.session.get(url, allow_redirects=False) as response:
        assert response.status == status
        data = await response.read()
    assert not data.startswith(b"\x89PNG")


async def test_finished_files_can_be_cut_short_or_huge(client: Client) -> None:
    client.sandbox.next_order(Plan(file_trouble=FileTrouble.TRUNCATED), Plan(file_trouble=FileTrouble.HUGE))
    cut = (await client.finish(FLUX, {"prompt": "x"}))["result"]["urls"][0]
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.image(cut)
    huge = (await client.finish(FLUX, {"prompt": "x"}))["result"]["urls"][0]
    async with client.session.get(huge) as response:
        assert len(await response.read()) > 30_000_000


async def test_styles_and_the_public_description_are_served(client: Client) -> None:
    _, styles = await client.get("/styles")
    style = styles["items"][0]["id"]
    assert (await client.get(f"/styles/{style}"))[0] == 200
    assert (await client.get("/styles/none"))[0] == 404
    assert (await client.order(FLUX, {"prompt": "x", "styles": [{"id": style, "strength": 1}]}))[0] == 200
    assert (await client.order(FLUX, {"prompt": "x", "styles": [{"id": "none", "strength": 1}]}))[0] == 400
    async with client.session.get(f"{client.sandbox.krea_base}/openapi.json") as response:
        document = await response.json()
    operation = document["paths"][NANO]["post"]
    assert operation["x-krea-pricing"]["price_points"][2] == {"amount": 0.16, "dimensions": {"resolution": "4K"}}


# -- images -----------------------------------------------------------------------------------------------


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of two images, 0 to 255."""
    other = second.convert("RGB").resize(first.size)
    return sum(ImageStat.Stat(ImageChops.difference(first.convert("RGB"), other)).mean) / 3


@pytest.mark.parametrize(
    ("path", "body", "size"),
    [
        (NANO, {"prompt": "fox", "aspect_ratio": "16:9"}, (1376, 768)),
        (NANO, {"prompt": "fox", "resolution": "2K"}, (2048, 2048)),
        (FLUX, {"prompt": "fox", "width": 512, "height": 768}, (512, 768)),
        (PIXAZO, {"prompt": "fox", "aspect_ratio": "2.35:1"}, (1568, 672)),
    ],
)
async def test_a_picture_has_the_size_that_was_ordered(
    client: Client, path: str, body: Any, size: tuple[int, int]
) -> None:
    job = await client.finish(path, body)
    urls = job["result"]["urls"] if "result" in job else job["output"]["media_url"]
    image = await client.image(urls[0])
    assert image.size == size
    assert image.format == "PNG"


def test_a_picture_depends_on_prompt_and_seed_and_nothing_else() -> None:
    sketch = Sketch(prompt="a cat by the sea", seed=1, width=256, height=256)
    assert encode(draw(sketch)) == encode(draw(sketch))
    others = [
        Sketch(prompt="a cat by the sea", seed=2, width=256, height=256),
        Sketch(prompt="a robot in the city", seed=1, width=256, height=256),
        Sketch(prompt="nothing known", seed=1, width=256, height=256),
    ]
    for other in others:
        assert difference(draw(sketch), draw(other)) > 8


@pytest.mark.parametrize("figure", sorted(FIGURES))
@pytest.mark.parametrize("size", [(64, 64), (300, 40), (40, 300)])
def test_every_figure_fits_every_frame(figure: str, size: tuple[int, int]) -> None:
    image = draw(Sketch(prompt=f"{figure} at night", seed=3, width=size[0], height=size[1]))
    assert image.size == size


def test_an_edit_keeps_its_input_recognisable_and_changes_it() -> None:
    first = draw(Sketch(prompt="a fox in the snow", seed=1, width=256, height=256))
    other = draw(Sketch(prompt="a whale at night", seed=1, width=256, height=256))
    edited = draw(Sketch(prompt="add an owl", seed=1, width=256, height=256, sources=(encode(first),)))
    assert 5 < difference(first, edited) < difference(other, edited)


def test_a_reference_lends_its_colours() -> None:
    plain = Sketch(prompt="hills", seed=5, width=128, height=128)
    red = Sketch(prompt="hills", seed=5, width=128, height=128, references=(a_png("darkred"),))
    means = [ImageStat.Stat(draw(sketch).convert("RGB")).mean for sketch in (plain, red)]
    assert means[1][0] - means[1][2] > means[0][0] - means[0][2] + 30


def test_a_preview_is_smaller_and_softer() -> None:
    sketch = Sketch(prompt="a castle", seed=5, width=512, height=256)
    small = Image.open(io.BytesIO(preview(sketch)))
    assert small.size == (128, 64)
    assert difference(draw(sketch), small) < 25


@pytest.mark.parametrize("prompt", ["", "   ", "狐 🦊", "a\nb\tc", "x" * 5000, "@everyone <@1> \u202e"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    assert draw(Sketch(prompt=prompt, seed=0, width=64, height=64)).size == (64, 64)


@pytest.mark.parametrize(
    ("path", "fields", "size"),
    [
        ("topaz/standard-enhance", {"width": 256, "height": 192, "model": "CGI"}, (256, 192)),
        ("krea/enhance", {}, (256, 192)),
        ("krea/enhance", {"image_scaling_factor": 3}, (384, 288)),
    ],
)
async def test_an_upscale_enlarges_its_input(
    client: Client, path: str, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    _, asset = await client.upload(encode(draw(Sketch(prompt="a fox", seed=1, width=128, height=96))))
    job = await client.finish(f"/generate/enhance/{path}", {"image_url": asset["image_url"], **fields})
    image = await client.image(job["result"]["urls"][0])
    assert image.size == size
    assert image.format == ("JPEG" if path.startswith("topaz") else "PNG")
