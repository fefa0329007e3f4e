"""A description as the provider serves it, written by hand, so that a word that only we use is found."""

from __future__ import annotations

import json
from typing import Any

IDEOGRAM = "krea/ideogram/ideogram-3"
GROK = "krea/xai/grok-imagine-2"
RATIOS = ["4:1", "21:9", "1:1", "4:3", "3:2", "2:3", "5:4", "4:5", "3:4", "16:9", "9:16", "1:4", "1:8"]


def operation(properties: dict[str, Any], required: list[str], points: list[dict[str, Any]], **more: Any) -> Any:
    schema = {"type": "object", "additionalProperties": False, "properties": properties, "required": required}
    return {
        "post": {
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "x-krea-pricing": {"type": "fixed", "currency": "USD", "unit": "request", "price_points": points},
            "responses": {"200": {"description": "a job"}},
            **more,
        }
    }


def point(amount: object, **dimensions: object) -> dict[str, Any]:
    return {"amount": amount, "dimensions": dimensions}


def live() -> dict[str, Any]:
    """Five models in the provider's own words, with a corner of fields that nobody reads."""
    url = {"type": "string", "format": "uri", "maxLength": 1024}
    strength = {"type": "number", "minimum": -2, "maximum": 2}
    style_image = {"type": "object", "required": ["url"], "properties": {"url": url, "strength": strength}}
    style = {"type": "object", "required": ["id", "strength"], "properties": {"id": {"type": "string"}}}
    k2_ratios = ["1:1", "4:3", "3:2", "16:9", "2.35:1", "4:5", "3:4", "2:3", "9:16"]
    sliders = {
        name: {"type": "integer", "minimum": -100, "maximum": 100, "default": 0}
        for name in ("intensity", "complexity", "movement")
    }
    size = {"type": "number", "minimum": 512, "maximum": 2368, "default": 1024}
    wide = {"type": "number", "minimum": 512, "maximum": 8192, "default": 1024}
    paths = {
        "/generate/image/google/nano-banana-2": operation(
            {
                "prompt": {"type": "string", "minLength": 3},
                "width": {"type": "number"},
                "height": {"type": "number"},
                "image_urls": {"type": "array", "items": url},
                "aspect_ratio": {"type": "string", "enum": RATIOS},
                "resolution": {"type": "string", "enum": ["1K", "2K", "4K"], "default": "1K"},
                "style_images": {"type": "array", "items": style_image},
            },
            ["prompt"],
            [point(0.08, resolution="1K"), point(0.12, resolution="2K"), point(0.16, resolution="4K")],
            summary="Nano Banana 2",
        ),
        "/generate/image/krea/krea-2/large": operation(
            {
                "prompt": {"type": "string", "minLength": 1},
                "aspect_ratio": {"type": "string", "enum": k2_ratios},
                "resolution": {"type": "string", "enum": ["1K"]},
                "seed": {"type": ["number", "null"]},
                "creativity": {"type": "string", "enum": ["raw", "low", "medium", "high"], "default": "low"},
                **sliders,
                "image_url": {"anyOf": [{"$ref": "#/components/schemas/Url"}, {"type": "null"}]},
                "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.99},
                "styles": {"type": "array", "items": style},
                "image_style_references": {"type": "array", "maxItems": 10, "items": style_image},
                "moodboards": {
                    "type": "array",
                    "maxItems": 1,
                    "items": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}},
                },
            },
            ["prompt", "aspect_ratio", "resolution"],
            [
                point(0.06, k2BillingTier="text-to-image"),
                point(0.065, k2BillingTier="srefs"),
                point(0.07, k2BillingTier="moodboards"),
            ],
        ),
        "/generate/image/bfl/flux-1-dev": operation(
            {
                "prompt": {"type": "string", "minLength": 3, "maxLength": 1800},
                "seed": {"type": "number"},
                "steps": {"type": "integer", "minimum": 1, "maximum": 100, "default": 25},
                "width": size,
                "height": size,
                "guidance_scale": {"type": "number", "minimum": 0, "maximum": 24, "default": 3.5},
                "image_url": url,
                "strength": {"type": "number", "default": 1},
                "style_images": {"type": "array", "items": style_image},
                "image_style_references": {"type": "array", "items": style_image},
                "styles": {"type": "array", "items": style},
            },
            ["prompt"],
            [point(0.007)],
        ),
        "/generate/image/ideogram/ideogram-3": operation(
            {
                "prompt": {"type": "string", "minLength": 1},
                "width": wide,
                "height": wide,
                "seed": {"type": "number", "default": 1337},
                "character_reference_images": {"type": "array", "items": url},
                "style_images": {"type": "array", "items": style_image},
            },
            ["prompt"],
            [point(0.063, hasCharacterRefs=False), point(0.1575, hasCharacterRefs=True)],
        ),
        "/generate/image/xai/grok-imagine-2": operation(
            {
                "prompt": {"type": "string", "minLength": 1, "maxLength": 4000},
                "aspect_ratio": {"type": "string", "enum": ["16:9", "1:1", "9:16"]},
                "resolution": {"type": "string", "enum": ["1K", "2K"]},
                "quality": {"type": "string", "enum": ["low", "medium"], "default": "medium"},
                "style_images": {"type": "array", "maxItems": 3, "items": style_image},
            },
            ["prompt", "aspect_ratio", "resolution"],
            [
                point(0.042, quality="low", resolutionTier="1K", referenceImageCount=0),
                point(0.0525, quality="low", resolutionTier="1K", referenceImageCount=1),
            ],
        ),
    }
    corner = {"x-internal-notes": {"team": "images", "flags": [1, 2, {"deep": None}]}, "webhooks": {}}
    document = {"openapi": "3.1.0", "paths": paths, "components": {"schemas": {"Url": url}}, **corner}
    return json.loads(json.dumps(document))


def post(document: dict[str, Any], model_id: str) -> dict[str, Any]:
    return document["paths"][f"/generate/image/{model_id.removeprefix('krea/')}"]["post"]


def body_schema(document: dict[str, Any], model_id: str) -> dict[str, Any]:
    return post(document, model_id)["requestBody"]["content"]["application/json"]["schema"]
