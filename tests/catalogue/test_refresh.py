"""Catalogue refresh: a served description compared in words, without losing our own settings.

`test_live_description.py` does the same with documents that are not made from our data.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from bot.catalogue.catalogue import data_text
from bot.catalogue.models import Model
from bot.catalogue.provider_description import openapi as openapi_module
from bot.catalogue.provider_description.changes import Reason, apply_edits
from bot.catalogue.provider_description.openapi import fetch_openapi
from bot.catalogue.provider_description.refresh import Refresh, refresh
from bot.domain.errors import ProviderUnavailable
from tests.support.catalogue_samples import capacities

CURRENT: dict[str, Any] = json.loads(data_text())
FLUX = "/generate/image/bfl/flux-1-dev"
NANO_BANANA_2 = "/generate/image/google/nano-banana-2"
KREA_LARGE = "/generate/image/krea/krea-2/large"
IDEOGRAM_3 = "/generate/image/ideogram/ideogram-3"
TOPAZ = "/generate/enhance/topaz/standard-enhance"

_SCHEMA_WORDS = {"min": "minimum", "max": "maximum", "min_length": "minLength", "max_length": "maxLength"}
_LIST_WORDS = {"min_items": "minItems", "max_items": "maxItems"}


def schema_of(field: dict[str, Any]) -> dict[str, Any]:
    """Return one of our fields as the provider describes it."""
    words = {"type": "type", "enum": "enum", "default": "default", **_SCHEMA_WORDS, **_LIST_WORDS}
    schema: dict[str, Any] = {theirs: field[ours] for ours, theirs in words.items() if ours in field}
    if field.get("format") == "uri" and field["type"] == "string":
        # some fields may be null, which is written in two ways
        return {"anyOf": [{"type": "string", "format": "uri", "maxLength": 1024}, {"type": "null"}]}
    if field["type"] == "array":
        element: dict[str, Any] = {"type": "string"} | {k: field[k] for k in ("format",) if k in field}
        item = field.get("item", "$value")
        holder = next((name for name, value in item.items() if value == "$value"), "") if isinstance(item, dict) else ""
        if holder:
            others = {name: {"type": "number"} for name in item if name != holder}
            element = {"type": "object", "required": [holder], "properties": {holder: element, **others}}
        schema["items"] = element
    return schema


def dimensions_of(when: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return one of our price conditions as the provider writes it."""
    if "moodboards" in names and when:
        tier = {"absent": "text-to-image", "present": "style references"}[when.get("image_style_references", "absent")]
        return {"tier": "moodboards (also with style references)" if when["moodboards"] == "present" else tier}
    return {"reference_images" if name == "pictures" else name: value for name, value in when.items()}


def description() -> dict[str, Any]:
    """Return the description that the catalogue was made from, in the form in which it is served."""
    paths: dict[str, Any] = {"/jobs": {"get": {}}, "/generate/video/some/model": {"post": {"summary": "Video"}}}
    for model in CURRENT["models"]:
        if model["provider"] != "krea":
            continue
        fields: dict[str, Any] = model["fields"]
        body = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: schema_of(field) for name, field in fields.items()},
            "required": [name for name, field in fields.items() if field.get("required")],
        }
        operation: dict[str, Any] = {
            "summary": model["label"],
            "requestBody": {"content": {"application/json": {"schema": body}}},
        }
        if points := model["price"]["points"]:
            operation["x-krea-pricing"] = {
                "type": "fixed",
                "currency": "USD",
                "unit": "request",
                "price_points": [
                    {"amount": point["usd_micros"] / 1e6, "dimensions": dimensions_of(point["when"], set(fields))}
                    for point in points
                ],
            }
        paths[model["path"]] = {"post": operation}
    return {"openapi": "3.1.0", "paths": paths}


def operation_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    return document["paths"][path]["post"]


def properties_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    body = operation_of(document, path)["requestBody"]["content"]["application/json"]["schema"]
    return cast("dict[str, Any]", body["properties"])


def entry(data: dict[str, Any], path: str) -> dict[str, Any]:
    return next(model for model in data["models"] if model["path"] == path)


def taken_over(result: Refresh, before: dict[str, Any] = CURRENT) -> dict[str, Any]:
    """Return the catalogue with every change, as if a person had accepted all."""
    entries: dict[str, Any] = {model["id"]: model for model in before["models"]}
    for found in result.changes:
        entries[found.model_id], _ = apply_edits(entries.get(found.model_id), found.edits)
    return {**before, "models": list(entries.values())}


def change(adjust: Callable[[dict[str, Any]], object]) -> tuple[dict[str, Any], list[str]]:
    document = description()
    adjust(document)
    result = refresh(CURRENT, document)
    return taken_over(result), list(result.lines)


def test_an_unchanged_description_changes_nothing():
    result = refresh(CURRENT, description())
    assert result.changes == ()
    assert result.notes == ()


def test_a_new_price_is_shown_and_taken_over():
    data, changes = change(
        lambda d: operation_of(d, NANO_BANANA_2)["x-krea-pricing"]["price_points"].__setitem__(
            0, {"amount": 0.0725, "dimensions": {"resolution": "1K"}}
        )
    )
    assert changes == [
        (
            "~ krea/google/nano-banana-2: price $0.08 (resolution 1K), $0.12 (resolution 2K), $0.16 (resolution 4K)"
            " → $0.0725 (resolution 1K), $0.12 (resolution 2K), $0.16 (resolution 4K)"
        )
    ]
    assert Model.from_data(entry(data, NANO_BANANA_2)).starting_usd_micros == 72_500


def test_a_price_that_is_not_published_any_more_makes_the_model_unorderable():
    data, changes = change(lambda d: operation_of(d, FLUX).pop("x-krea-pricing"))
    assert changes == [
        "~ krea/bfl/flux-1-dev: price $0.007 → no price",
        "! krea/bfl/flux-1-dev: cannot be ordered any more: the provider publishes no price",
    ]
    assert not Model.from_data(entry(data, FLUX)).orderable


@pytest.mark.hostile("G-14")
@pytest.mark.parametrize("amount", ["9e999999", "9e99999", "-9e999999", "NaN", "Infinity", 10**400, 1001, -0.01, 0])
def test_an_impossible_price_makes_the_model_unorderable(amount: object):
    point = {"amount": amount, "dimensions": {}}
    data, _ = change(lambda d: operation_of(d, FLUX)["x-krea-pricing"].__setitem__("price_points", [point]))
    assert not Model.from_data(entry(data, FLUX)).orderable


def test_a_description_without_any_prices_is_held_for_every_model():
    def forget_prices(document: dict[str, Any]) -> None:
        for methods in document["paths"].values():
            methods.get("post", {}).pop("x-krea-pricing", None)

    document = description()
    forget_prices(document)
    changes = refresh(CURRENT, document).changes
    assert {found.model_id for found in changes} == {
        model["id"] for model in CURRENT["models"] if model["provider"] == "krea" and model["price"]["points"]
    }
    assert all({Reason.NO_PRICE, Reason.MANY} == set(found.reasons) and found.stops for found in changes)


def test_prices_with_unknown_dimensions_are_never_used():
    def strange(document: dict[str, Any]) -> None:
        points = [
            {"amount": 0.01, "dimensions": {"moon": "full"}},
            {"amount": 0.02, "dimensions": {"tier": "golden"}},
            {"amount": 0.03, "dimensions": {}},
            {"amount": 0.00000001, "dimensions": {}},
            {"amount": "free", "dimensions": {}},
        ]
        operation_of(document, FLUX)["x-krea-pricing"]["price_points"] = points

    data, changes = change(strange)
    assert changes == [
        "~ krea/bfl/flux-1-dev: price $0.007 → no price",
        (
            "! krea/bfl/flux-1-dev: cannot be ordered any more:"
            " its price depends on moon = full, which this version does not know;"
            " its price depends on tier = golden, which this version does not know;"
            " one of its prices is 1e-08, which is no amount in dollars that can be charged"
        ),
    ]
    assert not Model.from_data(entry(data, FLUX)).orderable


def test_a_character_reference_and_a_number_of_images_are_understood():
    points = [
        {"amount": 0.063, "dimensions": {"character_reference_images": "absent", "reference_images": 0}},
        {"amount": 0.07, "dimensions": {"character_reference_images": "absent", "reference_images": 1}},
    ]
    data, _ = change(lambda d: operation_of(d, IDEOGRAM_3)["x-krea-pricing"].__setitem__("price_points", points))
    assert entry(data, IDEOGRAM_3)["price"] == {
        "complete": True,
        "points": [
            {"when": {"character_reference_images": "absent", "pictures": 0}, "usd_micros": 63_000},
            {"when": {"character_reference_images": "absent", "pictures": 1}, "usd_micros": 70_000},
        ],
    }


def test_changed_fields_are_shown_and_what_we_decided_stays():
    def adjust(document: dict[str, Any]) -> None:
        fields = properties_of(document, KREA_LARGE)
        fields["resolution"]["enum"] = ["1K", "2K"]
        fields["intensity"]["maximum"] = 200
        del fields["movement"]
        fields["mask_url"] = {"type": ["string", "null"], "format": "uri", "maxLength": 1024}
        fields["grain"] = {"type": ["number", "null"], "minimum": 0, "default": None}

    data, changes = change(adjust)
    name = "~ krea/krea/krea-2/large: field"
    assert changes == [
        f"{name} movement is gone",
        f'{name} resolution: enum ["1K"] → ["1K", "2K"]',
        f"{name} intensity: max 100 → 200",
        (
            f'{name} mask_url is new ({{"type": "string", "format": "uri", "for": []}});'
            " not sent until somebody decides what it is for"
        ),
        f'{name} grain is new ({{"type": "number", "min": 0}})',
    ]
    large = Model.from_data(entry(data, KREA_LARGE))
    assert large.label == "Krea 2 Large"
    assert large.choices("resolution") == ("1K", "2K")
    assert large.fields["creativity"].use == "low"
    assert capacities(large)[1] == 10


def test_a_renamed_field_keeps_what_it_is_for():
    def rename(document: dict[str, Any]) -> None:
        fields = properties_of(document, FLUX)
        fields["pictures_of_style"] = fields.pop("image_style_references")
        operation_of(document, FLUX)["x-krea-deprecated-field-aliases"] = [
            {"from": "image_style_references", "to": "pictures_of_style", "sunset_date": "2027-01-01"},
            {"from": "imageUrl", "to": "image_url", "sunset_date": "2026-06-19"},
        ]

    data, changes = change(rename)
    assert changes[0] == "~ krea/bfl/flux-1-dev: field image_style_references is gone"
    assert changes[1].startswith("~ krea/bfl/flux-1-dev: field pictures_of_style is new")
    flux = Model.from_data(entry(data, FLUX))
    assert flux.fields["pictures_of_style"].purposes == ("reference",)
    assert flux.fields["pictures_of_style"].item == {"url": "$value", "strength": 1.0}


def test_a_value_we_send_that_is_not_legal_any_more_is_dropped():
    data, changes = change(lambda d: properties_of(d, KREA_LARGE)["creativity"].update(enum=["medium", "high"]))
    assert any('use "low" → none' in line for line in changes)
    assert entry(data, KREA_LARGE)["fields"]["creativity"].get("use") is None


def test_deprecation_is_announced_and_taken_back():
    data, changes = change(lambda d: operation_of(d, FLUX).update(deprecated=True))
    assert changes == ["! krea/bfl/flux-1-dev: deprecated, the provider will withdraw it"]
    assert Model.from_data(entry(data, FLUX)).deprecated
    again = refresh(data, description())
    assert again.lines == ("~ krea/bfl/flux-1-dev: not deprecated any more",)
    assert taken_over(again, data) == CURRENT


def test_a_model_that_is_gone_is_retired_and_comes_back():
    data, changes = change(lambda d: d["paths"].pop(FLUX))
    assert changes == ["- krea/bfl/flux-1-dev: no longer described; it cannot be ordered any more"]
    assert not Model.from_data(entry(data, FLUX)).orderable
    document = description()
    del document["paths"][FLUX]
    assert refresh(data, document).changes == ()
    back = refresh(data, description())
    assert back.lines == ("+ krea/bfl/flux-1-dev: described again",)
    assert taken_over(back, data) == CURRENT


def test_the_models_of_other_providers_are_never_touched():
    data, _ = change(lambda d: [d["paths"].pop(path) for path in list(d["paths"]) if path != FLUX])
    others = [model for model in CURRENT["models"] if model["provider"] != "krea"]
    assert others
    assert all(model in data["models"] for model in others)


@pytest.mark.parametrize("document", [{}, {"paths": {}}, {"paths": {"/jobs": {"post": {}}}}, {"paths": []}])
def test_a_description_of_nothing_does_not_retire_everything(document: dict[str, Any]):
    with pytest.raises(ValueError, match="no image model"):
        refresh(CURRENT, document)


def test_a_new_model_can_be_ordered_at_once():
    def add(document: dict[str, Any]) -> None:
        document["components"] = {
            "schemas": {
                "Picture": {"type": "string", "format": "uri", "maxLength": 1024},
                "Body": {
                    "type": "object",
                    "required": ["prompt", "aspect_ratio", "resolution", "quality"],
                    "properties": {
                        "prompt": {"type": "string", "minLength": 1, "maxLength": 500},
                        "aspect_ratio": {"type": "string", "enum": ["16:9", "1:1"]},
                        "resolution": {"type": "string", "enum": ["2K", "4K"]},
                        "quality": {"type": "string", "enum": ["low", "high"], "default": "high"},
                        "width": {"type": "number"},
                        "height": {"type": "number"},
                        "seed": {"type": ["number", "null"]},
                        "image_url": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "null"}]},
                        "style_images": {
                            "type": "array",
                            "maxItems": 4,
                            "items": {
                                "type": "object",
                                "properties": {
                                    "url": {"$ref": "#/components/schemas/Picture"},
                                    "strength": {"type": "number", "default": 0.7},
                                },
                            },
                        },
                        "styles": {
                            "type": "array",
                            "items": {"type": "object", "properties": {"id": {"type": "string"}}},
                        },
                        "palette": {"type": "array", "items": {"type": "string"}},
                        "extra": {"type": "object"},
                    },
                },
            }
        }
        document["paths"]["/generate/image/acme/vision-2"] = {
            "post": {
                "summary": "Flux 1 Dev",
                "deprecated": True,
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}},
                "x-krea-pricing": {
                    "type": "fixed",
                    "currency": "USD",
                    "unit": "request",
                    "price_points": [
                        {"amount": 0.1, "dimensions": {"resolution": "2K"}},
                        {"amount": 0.2, "dimensions": {"resolution": "4K"}},
                    ],
                },
            }
        }

    data, changes = change(add)
    assert changes == [
        (
            "+ krea/acme/vision-2: Flux 1 Dev (acme/vision-2), generate, edit, reference,"
            " $0.10 (resolution 2K), $0.20 (resolution 4K)"
        )
    ]
    model = Model.from_data(entry(data, "/generate/image/acme/vision-2"))
    assert model.deprecated
    assert model.starting_usd_micros == 100_000
    assert model.supported_options == ("aspect_ratio", "resolution", "quality", "seed", "style", "reference")
    assert capacities(model) == (1, 4)
    assert model.fields["aspect_ratio"].use == "1:1"
    assert model.fields["resolution"].use == "2K"
    assert model.fields["quality"].use == "high"
    assert model.fields["style_images"].item["url"] == "$value"
    assert model.fields["styles"].item == {"id": "$value"}
    for unused in ("width", "height", "palette", "extra"):
        assert model.fields[unused].purposes == ()


def test_a_new_model_that_enlarges_or_only_edits_is_recognised():
    def add(document: dict[str, Any]) -> None:
        image = {"type": "string", "format": "uri"}
        body = {"properties": {"prompt": {"type": "string"}, "image_url": image}, "required": ["image_url"]}
        operation = {"post": {"requestBody": {"content": {"application/json": {"schema": body}}}}}
        document["paths"]["/generate/enhance/acme/bigger"] = operation
        document["paths"]["/generate/image/acme/retouch"] = copy.deepcopy(operation)

    _, changes = change(add)
    assert changes == [
        "+ krea/enhance/acme/bigger: bigger, upscale, no price",
        "+ krea/acme/retouch: retouch, edit, no price",
    ]


# -- reading it over HTTP ---------------------------------------------------------------------------------------

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A provider's site on this machine that answers `GET /openapi.json` as told."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.answer: Answer = self._describe

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answer(request)

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(description())


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    here = Site()
    application = web.Application()
    application.router.add_get("/openapi.json", here.serve)
    application.router.add_get("/elsewhere", here.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    host, port = runner.addresses[0][:2]
    here.url = f"http://{host}:{port}"
    yield here
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def test_the_served_description_is_read_and_compared(site: Site, session: aiohttp.ClientSession):
    document = await fetch_openapi(session, f"{site.url}/")
    assert refresh(CURRENT, document).changes == ()
    assert "Authorization" not in site.requests[0].headers


async def test_a_redirect_is_not_followed(site: Site, session: aiohttp.ClientSession):
    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    site.answer = away
    with pytest.raises(ProviderUnavailable) as caught:
        await fetch_openapi(session, site.url)
    assert caught.value.status == 302
    assert [request.path for request in site.requests] == ["/openapi.json"]


@pytest.mark.parametrize("body", ["<html>", "[]", '"x"', "\ud800".encode("utf-8", "surrogatepass"), ""])
async def test_what_is_not_a_json_object_is_refused(body: str | bytes, site: Site, session: aiohttp.ClientSession):
    async def nonsense(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    site.answer = nonsense
    with pytest.raises(ProviderUnavailable, match="not"):
        await fetch_openapi(session, site.url)


async def test_a_description_that_unpacks_to_too_much_is_not_read_to_the_end(
    site: Site, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
):
    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(b" " * 1_000_000), headers={"Content-Encoding": "gzip"})

    monkeypatch.setattr(openapi_module, "_MAX_BYTES", 100_000)
    site.answer = bomb
    with pytest.raises(ProviderUnavailable, match="larger than 100000 bytes"):
        await fetch_openapi(session, site.url)


async def test_errors_and_time_outs_are_no_description(
    site: Site, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
):
    async def fail(request: web.Request) -> web.StreamResponse:
        raise web.HTTPServiceUnavailable

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    for answer in (fail, hang_up):
        site.answer = answer
        with pytest.raises(ProviderUnavailable):
            await fetch_openapi(session, site.url)
    with pytest.raises(ProviderUnavailable):
        await fetch_openapi(session, "http://127.0.0.1:1")
