"""Comparing the catalogue with the provider's description: what changes, what it does to orders, what is suspicious.

What the description lacks is kept from the catalogue: labels, what each image field is for, our defaults, and the
models of other providers. Nothing here is applied: a change is proposed, in two parts for each model (its price, and
everything else), and either harmless or held with its reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from bot.catalogue.models import Model
from bot.catalogue.provider_description import description
from bot.catalogue.provider_description.changes import ENTRY, PRICE, Change, Edit, Reason, difference
from bot.catalogue.provider_description.description import PREFIXES, Unreadable, shown
from bot.catalogue.provider_description.prices import ReadPrice, read_price
from bot.catalogue.provider_description.refresh_words import differences, orders_lost, price_words
from bot.domain.json_values import Json, as_object

MAX_PRICE_FACTOR = 2
"""A price that moves by more than this is held."""

MAX_CHANGED_SHARE = 5
"""When more than a fifth of the models changes at once, every change is held."""

_MANY_FROM = 5
"""A catalogue of fewer changes than this never counts as changed at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """What the description would change. `notes` are about the document as a whole."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything in words, one line each."""
        return (*self.notes, *(line for change in self.changes for line in change.lines))


def refresh(
    current: Mapping[str, Any],
    document: Mapping[str, Any],
    *,
    agreed: Mapping[str, Any] | None = None,
    default_model: str = "",
) -> Refresh:
    """Compare `current` (catalogue data) with `document` (the content of `GET /openapi.json`).

    `agreed` is the catalogue as people last agreed to it; prices are compared with those. Raises ValueError for a
    document that describes no image model, which would retire all of them, or far too many.
    """
    operations = description.operations(document)
    notes: list[str] = []
    agreed_prices = {model["id"]: model["price"] for model in (agreed or current)["models"]}
    known: list[Json] = [model for model in current["models"] if model["path"].startswith(tuple(PREFIXES))]
    changes: list[Change] = []
    for model in known:
        operation = operations.pop(model["path"], None)
        if operation is None:
            changes += _gone(model, default_model)
            continue
        changes += _compared(
            model,
            operation,
            document,
            current,
            agreed_price=agreed_prices.get(model["id"], model["price"]),
            default_model=default_model,
        )
    if _are_many({change.model_id for change in changes}, known):
        changes = [replace(change, reasons=(*change.reasons, Reason.MANY)) for change in changes]
    labels = {model["label"] for model in current["models"]}
    for path, operation in operations.items():
        try:
            model = _discovered(path, operation, document, current, labels)
        except Unreadable as error:
            notes.append(f"! {_model_id(path)}: new, and cannot be read: {error}")
            continue
        labels.add(model["label"])
        changes.append(_added(model))
    return Refresh(changes=tuple(changes), notes=tuple(notes))


def _are_many(changed: set[str], known: list[Json]) -> bool:
    return len(changed) >= _MANY_FROM and len(changed) * MAX_CHANGED_SHARE > len(known)


def _gone(model: Json, default_model: str) -> list[Change]:
    if model.get("retired"):
        return []
    return [
        Change(
            model_id=model["id"],
            part=ENTRY,
            edits=(Edit(("retired",), None, True),),
            lines=(f"- {model['id']}: no longer described; it cannot be ordered any more",),
            reasons=(Reason.DEFAULT,) if model["id"] == default_model else (),
            stops=True,
        )
    ]


# -- known models --------------------------------------------------------------------------------------------


def _compared(
    model: Json,
    operation: Json,
    document: Mapping[str, Any],
    current: Mapping[str, Any],
    *,
    agreed_price: Json,
    default_model: str,
) -> list[Change]:
    """Return what changes about a model that is known."""
    try:
        updated = _updated(model, operation, document)
    except Unreadable as error:
        return _unreadable(model, str(error), default_model)
    changes: list[Change] = []
    read = read_price(operation, updated["fields"], as_object(current.get("dimensions")))
    if edits := difference(model, updated):
        lines, reasons = differences(model, updated), list[Reason]()
        if _requires_more(model, updated):
            reasons.append(Reason.REQUIRED)
            lines += (f"! {model['id']}: an order has to contain a field that it did not have to contain before",)
        elif read.price["points"] and _is_orderable(model) and not _is_orderable(updated | {"price": read.price}):
            reasons += [Reason.NO_ORDER] + [Reason.DEFAULT] * (model["id"] == default_model)
            lines += (f"! {model['id']}: cannot be ordered any more: nobody can give a field that every order needs",)
        changes.append(
            Change(
                model_id=model["id"],
                part=ENTRY,
                edits=edits,
                lines=lines,
                reasons=tuple(reasons),
                stops=Reason.NO_ORDER in reasons or not all(map(_only_adds, edits)),
            )
        )
    if read.price["points"] != model["price"]["points"]:
        changes.append(_price_change(model, updated, read, agreed_price))
    return changes


def _unreadable(model: Json, why: str, default_model: str) -> list[Change]:
    """Propose to retire a model whose description is not understood; it stops until a person decides."""
    if model.get("retired"):
        return []
    reasons = (Reason.UNREADABLE, Reason.DEFAULT) if model["id"] == default_model else (Reason.UNREADABLE,)
    return [
        Change(
            model_id=model["id"],
            part=ENTRY,
            edits=(Edit(("retired",), None, True),),
            lines=(f"! {model['id']}: cannot be ordered any more: its description cannot be read: {why}",),
            reasons=reasons,
            stops=True,
        )
    ]


def _updated(model: Json, operation: Json, document: Mapping[str, Any]) -> Json:
    """Return the model's data as described now, with its former price. Raises Unreadable."""
    known: dict[str, Json] = model["fields"]
    words = description.read_operation(operation)
    fields, items = description.read_fields(operation, document, known)
    if not any(name in fields for name, field in known.items() if field.get("required")) and any(
        field.get("required") for field in known.values()
    ):
        raise Unreadable("none of the fields that an order needs is described any more")
    renamed = description.renamed_fields(operation, known)
    new = [name for name in fields if name not in known and name not in renamed]
    description.decide(fields, items, new)
    for name in new:
        if fields[name].get("format") != "uri":
            continue
        if name in description.REFERENCE_NAMES and not fields[name].get("required"):
            del fields[name]["for"]  # Sent only where a member names it, such as `style_images=reference2`.
        else:
            fields[name]["for"] = []  # Not sent until its purpose is entered in the catalogue.
    updated = {key: value for key, value in model.items() if key not in ("retired", "deprecated")}
    if words.deprecated:
        updated["deprecated"] = True
    # `fields` and `price` are last, because they are long.
    return {k: v for k, v in updated.items() if k not in ("fields", "price")} | {
        "fields": fields,
        "price": model["price"],
    }


def _requires_more(old: Json, new: Json) -> bool:
    """Whether an order has to contain a field that it did not have to contain before."""
    before: dict[str, Json] = old["fields"]
    renamed = {name for name in before if name not in new["fields"]}
    required = [name for name, field in new["fields"].items() if field.get("required")]
    added = [name for name in required if not before.get(name, {}).get("required")]
    # A renamed field that was required before is not one more.
    return len(added) > len([name for name in renamed if before[name].get("required")])


def _only_adds(edit: Edit) -> bool:
    """Whether an order that was right before the edit is still right."""
    name = edit.path[-1]
    if len(edit.path) == 2:
        return edit.before is None and not as_object(edit.after).get("required")
    if name == "enum" and edit.before is not None and edit.after is not None:
        return set(edit.before) <= set(edit.after)
    if edit.after is None and name in ("required", "enum", "min", "max", "min_length", "max_length"):
        return True
    if name in ("max", "max_length", "max_items") and edit.before is not None and edit.after is not None:
        return edit.after >= edit.before
    if name in ("min", "min_length", "min_items") and edit.before is not None:
        return edit.after is None or edit.after <= edit.before
    return name in ("default", "label", "deprecated", "retired", "max_items", "min_items", *description.DECIDED)


# -- prices --------------------------------------------------------------------------------------------------


def _price_change(model: Json, updated: Json, read: ReadPrice, agreed: Json) -> Change:
    new = updated | {"price": read.price}
    reasons: list[Reason] = []
    why = "; ".join(read.problems[:3])
    lines = [f"~ {model['id']}: price {price_words(model['price'])} → {price_words(read.price)}"]
    if _is_orderable(model) and not _is_orderable(new):
        reasons.append(Reason.MEANING if read.has_other_meaning else Reason.NO_PRICE)
        lines.append(f"! {model['id']}: cannot be ordered any more: {why or 'its usual order has no price'}")
    elif lost := orders_lost(model["price"], read.price):
        lines.append(f"! {model['id']}: orders with {lost} cannot be placed any more: {why or 'no price is published'}")
    if moved := _moved_far(agreed, read.price):
        reasons.append(Reason.PRICE)
        lines.append(f"! {model['id']}: {moved}")
    return Change(
        model_id=model["id"],
        part=PRICE,
        edits=(Edit(("price",), model["price"], read.price),),
        lines=tuple(lines),
        reasons=tuple(reasons),
        stops=True,
    )


def _is_orderable(model: Json) -> bool:
    return Model.from_data(model).orderable


def _moved_far(agreed: Json, new: Json) -> str:
    """Say how a price differs by more than 2 × from what people agreed to; '' if none does.

    A price for other conditions than any before is compared with the whole range of the former ones.
    """
    old: dict[str, int] = {_key(point): point["usd_micros"] for point in agreed["points"]}
    if not old:
        return ""
    for point in cast("list[Json]", new["points"]):
        same = old.get(_key(point))
        low, high = (same, same) if same is not None else (min(old.values()), max(old.values()))
        if point["usd_micros"] > high * MAX_PRICE_FACTOR:
            return f"{price_words({'points': [point], 'complete': True})} is more than twice what it was"
        if point["usd_micros"] * MAX_PRICE_FACTOR < low:
            return f"{price_words({'points': [point], 'complete': True})} is less than half of what it was"
    return ""


def _key(point: Json) -> str:
    return repr(sorted(point["when"].items(), key=lambda pair: pair[0]))


# -- new models ----------------------------------------------------------------------------------------------


def _model_id(path: str) -> str:
    prefix = next(prefix for prefix in PREFIXES if path.startswith(prefix))
    name = path.removeprefix(prefix)
    return f"krea/{name}" if PREFIXES[prefix] == "image" else f"krea/enhance/{name}"


def _discovered(
    path: str, operation: Json, document: Mapping[str, Any], current: Mapping[str, Any], labels: set[str]
) -> Json:
    """Return the data of a new model. Raises Unreadable."""
    prefix = next(prefix for prefix in PREFIXES if path.startswith(prefix))
    name = path.removeprefix(prefix)
    words = description.read_operation(operation)
    fields, items = description.read_fields(operation, document, {})
    description.decide(fields, items, fields)
    summary = words.summary if description.is_useful_text(words.summary) else None
    model: Json = {
        "id": _model_id(path),
        "label": _free_label(summary or name.rpartition("/")[2], name, labels),
        "provider": "krea",
        "path": path,
        "kind": PREFIXES[prefix],
        "modes": _modes(PREFIXES[prefix], fields.values()),
    }
    if words.deprecated:
        model["deprecated"] = True
    price = read_price(operation, fields, as_object(current.get("dimensions"))).price
    return model | {"fields": fields, "price": price}


def _modes(kind: str, fields: Iterable[Json]) -> list[str]:
    if kind == "enhance":
        return ["upscale"]
    fields = list(fields)
    purposes = {purpose: field for field in fields for purpose in field.get("for", ())}
    needs_image = any(field.get("required") and field.get("format") == "uri" for field in fields)
    reads_style = "reference" in purposes and "source" not in purposes["reference"]["for"]
    return ["generate"] * (not needs_image) + ["edit"] * ("source" in purposes) + ["reference"] * reads_style


def _free_label(wanted: str, name: str, taken: set[str]) -> str:
    return wanted if wanted not in taken else f"{wanted} ({name})"


def _added(model: Json) -> Change:
    modes = ", ".join(model["modes"])
    return Change(
        model_id=model["id"],
        part=ENTRY,
        edits=difference(None, model),
        lines=(f"+ {model['id']}: {shown(model['label'])}, {modes}, {price_words(model['price'])}",),
    )
