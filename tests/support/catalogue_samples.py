"""Models, requests and an independent check of orders, for the tests of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import strategies as st

from bot.catalogue.catalogue import Catalogue, data_text
from bot.catalogue.models import OPTIONS, Model, PricePoint
from bot.catalogue.quotes import Quote
from bot.domain.errors import BadOption
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest

CATALOGUE = Catalogue.load()
DATA: Mapping[str, Any] = json.loads(data_text())
RAW: Mapping[str, Any] = {model["id"]: model for model in DATA["models"]}
EVERY_MODEL = [pytest.param(model, id=model.id) for model in CATALOGUE.models]
BOTH = frozenset({"krea", "pixazo"})
MOODBOARD = "123e4567-e89b-12d3-a456-426614174000"

FLUX = "krea/bfl/flux-1-dev"
NANO_BANANA_2 = "krea/google/nano-banana-2"
NANO_BANANA_PRO = "krea/google/nano-banana-pro"
KREA_LARGE = "krea/krea/krea-2/large"
PIXAZO_LARGE = "pixazo/krea-2-large"
TOPAZ = "krea/enhance/topaz/standard-enhance"


def an_image(role: ImageRole = ImageRole.SOURCE, *, width: int = 1000, height: int = 1000) -> ImageInput:
    return ImageInput(sha256="ab", role=role, content_type="image/png", width=width, height=height)


def capacities(model: Model) -> tuple[int | None, int | None]:
    """Return the most source and reference images at once; 0 for none, None where no limit is stated."""
    source, reference = model.field_for(ImageRole.SOURCE), model.field_for(ImageRole.REFERENCE)
    return source.capacity if source else 0, reference.capacity if reference else 0


def a_request(model_id: str, **changes: Any) -> JobRequest:
    values: dict[str, Any] = {"kind": JobKind.IMAGINE, "guild_id": 1, "user_id": 2, "prompt": "a red fox"}
    return JobRequest(model_id=model_id, **(values | changes))


def order(model_id: str, catalogue: Catalogue = CATALOGUE, **changes: Any) -> Quote:
    return catalogue.quote(a_request(model_id, **changes), seed_source=lambda: 7)


def refusal(model_id: str, **changes: Any) -> BadOption:
    with pytest.raises(BadOption) as caught:
        order(model_id, **changes)
    return caught.value


def plainest(model: Model, **changes: Any) -> JobRequest:
    """Return the smallest request to a model: no options, only the images that it requires."""
    kind = next(kind for kind in (JobKind.IMAGINE, JobKind.EDIT, JobKind.UPSCALE) if model.supports(kind))
    needed = [field for field in model.fields.values() if field.required and field.is_for_images]
    images = tuple(an_image(ImageRole(field.purposes[0])) for field in needed)
    return a_request(model.id, **{"kind": kind, "images": images, **changes})


def priced_at(amount: str, *model_ids: str, tmp_path: Path) -> Catalogue:
    return overridden({"prices": dict.fromkeys(model_ids, amount)}, tmp_path=tmp_path)


def overridden(content: object, *, tmp_path: Path) -> Catalogue:
    path = tmp_path / "catalogue.override.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Catalogue.load(path)


ALL_PRICED = Catalogue(
    model if model.orderable else model.priced((PricePoint(when={}, usd_micros=50_000),)) for model in CATALOGUE.models
)
"""Every model that is listed, made orderable where it has no price."""

REFERENCE = (an_image(ImageRole.REFERENCE),)


def options_of(model: Model) -> dict[str, list[Any]]:
    """Return a few accepted values for each option of the model, None for 'not chosen'."""
    samples: dict[str, list[Any]] = {"seed": [0], "style": ["style-ink"], "moodboard": [MOODBOARD], "creativity": [3]}
    named = {name for name, field in model.fields.items() if field.enum and name in field.purposes}
    return {
        option: [None, *(model.choices(option) or samples.get(option, []))]
        for option in [*OPTIONS, *sorted(named - set(OPTIONS))]
        if option != "reference" and model.supports_option(option)
    }


def listed_price(raw: Mapping[str, Any], body: Mapping[str, Any], images: int) -> set[int]:
    """Return the prices that match, read from the data without the code under test."""
    fitting: set[int] = set()
    for point in raw["price"]["points"]:
        for name, wanted in point["when"].items():
            have: Any = images if name == "pictures" else body.get(name)
            if wanted in ("present", "absent"):
                have = "present" if name in body else "absent"
            if have != wanted:
                break
        else:
            fitting.add(point["usd_micros"])
    return fitting


def requests_for(draw: st.DrawFn, model: Model) -> JobRequest:
    kind = draw(st.sampled_from([kind for kind in JobKind if model.supports(kind)]))
    options = {name: draw(st.sampled_from(values)) for name, values in options_of(model).items()}
    sides = st.integers(1, 5000)
    roles = draw(st.lists(st.sampled_from(ImageRole), max_size=5))
    images = tuple(an_image(role, width=draw(sides), height=draw(sides)) for role in roles)
    chosen = {name: value for name, value in options.items() if value is not None}
    return a_request(model.id, kind=kind, options=chosen, images=images, prompt="a red fox" * draw(st.integers(1, 3)))


def broken_rules(raw: Mapping[str, Any], body: Mapping[str, Any]) -> list[str]:
    """Return what the provider would refuse, by its own description of each field, without the code under test."""
    fields = cast("dict[str, dict[str, Any]]", raw["fields"])
    problems = [f"{name} is missing" for name, field in fields.items() if field.get("required") and name not in body]
    for name, value in body.items():
        field = fields.get(name)
        if field is None or field.get("for") == []:
            problems.append(f"{name} must not be sent")
            continue
        kinds: dict[str, Any] = {"string": str, "boolean": bool, "array": list, "integer": int, "number": (int, float)}
        is_image = isinstance(value, dict) and field.get("format") == "uri"
        if not is_image and not isinstance(value, kinds[field["type"]]):
            problems.append(f"{name} has the wrong type")
        if "enum" in field and value not in field["enum"]:
            problems.append(f"{name} is none of the choices")
        if isinstance(value, int | float) and not field.get("min", value) <= value <= field.get("max", value):
            problems.append(f"{name} is out of range")
        if isinstance(value, list) and not field.get("min_items", 1) <= len(value) <= field.get("max_items", 99):
            problems.append(f"{name} has the wrong number of elements")
        if isinstance(value, str) and not field.get("min_length", 0) <= len(value) <= field.get("max_length", 9**9):
            problems.append(f"{name} has the wrong length")
    return problems


@st.composite
def any_request(draw: st.DrawFn) -> JobRequest:
    return requests_for(draw, draw(st.sampled_from(CATALOGUE.models)))
