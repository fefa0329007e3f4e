"""Near orders: what differs from a refused order in one thing and would be possible, with its price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bot.catalogue import order_text
from bot.catalogue.models import Model
from bot.domain.constraints import AtMostImages
from bot.domain.errors import (
    BadOption,
    ChannelCapReached,
    DearerThanAgreed,
    ModelUnavailable,
    NotAllowedHere,
    OperatorServerCapReached,
    ProviderPaused,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerCapReached,
    StillBusyForYou,
    StoreError,
    TooFast,
    TooManyRunning,
    TooMuchAtRisk,
    UnknownModel,
    UnknownPreset,
)
from bot.domain.jobs import ImageRole, JobRequest
from bot.domain.money.quota import Member, format_usd
from bot.service.job_service import JobService
from cogs.generate.ordering.order import Order
from cogs.generate.ordering.permissions import Permissions, default_model
from cogs.text import formatting, refusals
from cogs.text.locale import MAX_BUTTON_CHARACTERS, option_name

MAX_OFFERED = 2
NAMED_CHARACTERS = 40
"""Space for the name of a model on a button."""

_FEWEST_COMPARED = 2
_IMPOSSIBLE = 2**62
"""Above any price."""

_LATER = (TooFast, StillBusyForYou, TooManyRunning, ServerBusy, StoreError)
"""Refusals after which the same order is possible a little later."""

_TOO_DEAR = (QuotaExceeded, ChannelCapReached, ServerCapReached, OperatorServerCapReached)
_OF_MODEL = (UnknownModel, ModelUnavailable, ProviderPaused)
_RULES_ABOUT_MODELS = frozenset({"model", "other_roles", "age_restricted", "age_restricted_model", "direct"})


@dataclass(frozen=True, kw_only=True, slots=True)
class NearOrder:
    """An order to offer; `change` says what is different from what was asked for."""

    order: Order
    change: str
    amount_usd_micros: int = 0

    @property
    def label(self) -> str:
        """The words on the button: `Order without resolution · $0.007`."""
        price = f" · {format_usd(self.amount_usd_micros)}"
        return formatting.shorten(self.change, MAX_BUTTON_CHARACTERS - len(price)) + price


async def near_orders(
    service: JobService,
    order: Order,
    error: RequestRefused | StoreError,
    *,
    permissions: Permissions,
    member: Member,
) -> list[NearOrder]:
    """List up to two orders near the refused one that would be accepted now, or the same one if it only has to wait."""
    order = replace(order, agreed_usd_micros=None)
    if isinstance(error, _LATER):
        return _again(service, order, permissions)
    found: list[NearOrder] = []
    for near in _changes(service, order, error, permissions):
        amount = _price(service, near.order, permissions)
        is_new = all(near.order != replace(other.order, agreed_usd_micros=None) for other in found)
        if amount is not None and is_new and await _is_affordable(service, near.order, member):
            agreed = replace(near.order, agreed_usd_micros=amount)
            found.append(replace(near, order=agreed, amount_usd_micros=amount))
        if len(found) == MAX_OFFERED:
            break
    if not found and isinstance(error, TooMuchAtRisk):  # one image fits, unless others are in progress
        return _again(service, order, permissions)
    return found


def _again(service: JobService, order: Order, permissions: Permissions) -> list[NearOrder]:
    amount = _price(service, order, permissions)
    agreed = replace(order, agreed_usd_micros=amount)
    again = NearOrder(order=agreed, change=refusals.TRY_AGAIN(), amount_usd_micros=amount or 0)
    return [] if amount is None else [again]


def _price(service: JobService, order: Order, permissions: Permissions) -> int | None:
    """Return the price of an order; None if it is not permitted or not possible."""
    try:
        for request in order.variants or (order.request,):
            permissions.check(service, request)
        return sum(service.quote(request).amount_usd_micros for request in order.requests())
    except RequestRefused:
        return None


async def _is_affordable(service: JobService, order: Order, member: Member) -> bool:
    try:
        await service.check_admission(order.requests(), member=member)
    except (RequestRefused, StoreError):
        return False
    return True


def _changes(
    service: JobService,
    order: Order,
    error: RequestRefused | StoreError,
    permissions: Permissions,
) -> Iterator[NearOrder]:
    """Yield orders that might be possible instead, the nearest first; each differs in one thing."""
    if order.model_ids:  # a comparison that could not be completed
        yield from _of_models(service, order, _models_meant(service, order, error))
        return
    if order.variants and not isinstance(error, DearerThanAgreed):
        yield from _variants_without(order, error)
        if _is_about_models(error):
            yield from _smaller_comparisons(service, order)
        return
    match error:
        case UnknownPreset() if order.additions is not None:
            without = replace(order, additions=replace(order.additions, preset_name=None))
            yield NearOrder(order=without, change=refusals.ORDER_WITHOUT(option=option_name("preset")))
        case BadOption(option="more"):
            yield from _without_more(service, order)
        case DearerThanAgreed():
            yield NearOrder(order=order, change=refusals.ORDER())
        case BadOption(option=option) if option in order.request.options:
            yield _without_unfitting(service, order, option)
            yield from _other_models(service, order, permissions)
        case BadOption(constraint=AtMostImages(count=count)):
            yield from _fewer_inputs(order, count)
            yield from _other_models(service, order, permissions)
        case BadOption(option=ImageRole.REFERENCE, reason="unknown"):
            yield from _fewer_inputs(order, 0)
            yield from _other_models(service, order, permissions)
        case BadOption():
            yield from _other_models(service, order, permissions)
        case _ if isinstance(error, _OF_MODEL):
            suggestions = error.suggestions if isinstance(error, UnknownModel) else ()
            yield from (_with_model(service, order, model_id) for model_id in suggestions)
            yield from _other_models(service, order, permissions)
        case NotAllowedHere(reason=reason) if reason in _RULES_ABOUT_MODELS:
            yield from _other_models(service, order, permissions)
        case TooMuchAtRisk():
            yield from (_fewer(order, count) for count in range(order.count - 1, 0, -1))
        case _ if isinstance(error, _TOO_DEAR):
            yield from (_fewer(order, count) for count in range(order.count - 1, 0, -1))
            yield from (
                _without(order, option) for option in ("resolution", "quality") if option in order.request.options
            )
            yield from _cheapest(service, order, permissions)
        case _:
            return


def _other_models(service: JobService, order: Order, permissions: Permissions) -> Iterator[NearOrder]:
    """Yield the order with the default model, then with the least expensive one that takes everything as it is."""
    yield _with_model(service, order, default_model(service, permissions.policy, order.request.kind))
    yield from _cheapest(service, order, permissions)


def _cheapest(service: JobService, order: Order, permissions: Permissions) -> Iterator[NearOrder]:
    def permits(model: Model) -> bool:
        return model.orderable and permissions.permits(model) and not _is_paused(service, order.requests()[0], model)

    quote = service.cheapest(order.requests()[0], permits=permits)
    if quote is not None:
        yield _with_model(service, order, quote.model.id)


def _is_paused(service: JobService, request: JobRequest, model: Model) -> bool:
    try:
        service.quote(order_text.for_model(model, request))
    except RequestRefused:
        return True
    return False


def _variants_without(order: Order, error: RequestRefused | StoreError) -> Iterator[NearOrder]:
    """Yield a comparison without the option that one of its models does not take."""
    if not isinstance(error, BadOption) or error.option not in order.request.options:
        return
    near = _without(order, error.option)
    kept = near.order.request.options
    variants = tuple(replace(request, options=kept) for request in order.variants)
    yield replace(near, order=replace(near.order, variants=variants))


def _is_about_models(error: RequestRefused | StoreError) -> bool:
    """Whether another choice of models may be possible."""
    is_rule = isinstance(error, NotAllowedHere) and error.reason in _RULES_ABOUT_MODELS
    return is_rule or isinstance(error, (*_TOO_DEAR, *_OF_MODEL, BadOption, TooMuchAtRisk))


def _models_meant(service: JobService, order: Order, error: RequestRefused | StoreError) -> list[Model]:
    """Return the models of a comparison, each once, with the nearest one in place of one that does not exist."""
    found: list[Model] = []
    for model_id in order.model_ids:
        is_wrong = isinstance(error, UnknownModel) and error.model_id == model_id
        meant = error.suggestions[0] if isinstance(error, UnknownModel) and is_wrong and error.suggestions else model_id
        model = service.catalogue.find(meant)
        if model is not None and model not in found:
            found.append(model)
    return found


def _of_models(service: JobService, order: Order, models: Sequence[Model]) -> Iterator[NearOrder]:
    """Yield the comparison of these models, or the order of a single one."""
    try:
        requests = [service.expand(replace(order.request, model_id=model.id)) for model in models]
    except RequestRefused:
        return
    if requests:
        yield _compared(service, order, requests)


def _smaller_comparisons(service: JobService, order: Order) -> Iterator[NearOrder]:
    """Yield the comparison without one of its models, the dearest first, then the cheapest ones alone."""
    amounts = {request.model_id: _amount(service, request) for request in order.variants}
    by_price = sorted(order.variants, key=lambda request: amounts[request.model_id])
    if len(by_price) > _FEWEST_COMPARED:
        for left_out in reversed(by_price):
            kept = [request for request in order.variants if request is not left_out]
            change = refusals.ORDER_WITHOUT(option=service.model_label(left_out.model_id))
            yield replace(_compared(service, order, kept), change=change)
    for count in range(len(by_price) - 2, _FEWEST_COMPARED - 1, -1):
        cheapest = by_price[:count]
        yield _compared(service, order, [request for request in order.variants if request in cheapest])
    for request in by_price:
        yield _compared(service, order, [request])


def _compared(service: JobService, order: Order, requests: Sequence[JobRequest]) -> NearOrder:
    labels = ", ".join(service.model_label(request.model_id) for request in requests)
    variants = tuple(requests) if len(requests) >= _FEWEST_COMPARED else ()
    near = replace(order, request=requests[0], variants=variants, model_ids=(), additions=None)
    return NearOrder(order=near, change=refusals.ORDER_WITH_MODEL(model=labels))


def _amount(service: JobService, request: JobRequest) -> int:
    """Return the price of a request; the highest for one that cannot be ordered."""
    try:
        return service.quote(request).amount_usd_micros
    except RequestRefused:
        return _IMPOSSIBLE


def _without(order: Order, option: str) -> NearOrder:
    options = {name: value for name, value in order.request.options.items() if name != option}
    return NearOrder(
        order=replace(order, request=replace(order.request, options=options)),
        change=refusals.ORDER_WITHOUT(option=option_name(option)),
    )


def _without_unfitting(service: JobService, order: Order, option: str) -> NearOrder:
    """Return the order without this option and without those that are refused once it is gone."""
    names: list[str] = []
    while True:
        names.append(option)
        options = {name: value for name, value in order.request.options.items() if name not in names}
        request = replace(order.request, options=options)
        near = replace(order, request=request)
        try:
            service.quote(near.requests()[0])
        except BadOption as error:
            if error.option in options:
                option = error.option
                continue
        except RequestRefused:
            pass  # whether what is left can be ordered is asked of every near order
        named = ", ".join(option_name(name) for name in names)
        return NearOrder(order=near, change=refusals.ORDER_WITHOUT(option=named))


def _without_more(service: JobService, order: Order) -> Iterator[NearOrder]:
    if order.additions is None:
        return
    try:
        request = service.expand(order.request, template=order.additions.template, defaults=order.additions.defaults)
    except RequestRefused:
        return
    expanded = replace(order, request=request, additions=None)
    yield NearOrder(order=expanded, change=refusals.ORDER_WITHOUT(option=option_name("more")))


def _with_model(service: JobService, order: Order, model_id: str) -> NearOrder:
    label = formatting.shorten(service.model_label(model_id), NAMED_CHARACTERS)
    model = service.catalogue.find(model_id)
    near = order.with_model(model_id)
    if model is not None:
        near = replace(near, request=order_text.for_model(model, order.request))
    return NearOrder(order=near, change=refusals.ORDER_WITH_MODEL(model=label))


def _fewer(order: Order, count: int) -> NearOrder:
    return NearOrder(order=replace(order, count=count), change=refusals.ORDER_FEWER(count))


def _fewer_inputs(order: Order, count: int) -> Iterator[NearOrder]:
    """Yield the order with only the first of its input images."""
    request = replace(order.request, images=order.request.images[:count])
    preset_image = order.preset_image if len(request.images or order.attachments) < count else None
    attachments = tuple(order.attachments)[:count]
    fewer = replace(order, request=request, attachments=attachments, preset_image=preset_image)
    change = refusals.ORDER_WITH_INPUTS(count) if count else refusals.ORDER_WITHOUT(option=option_name("reference"))
    yield NearOrder(order=fewer, change=change)
