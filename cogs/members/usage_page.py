"""The pages of /usage and /models. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bot.catalogue import parameters
from bot.catalogue.models import Model
from bot.domain.jobs import FailureReason, Job, JobKind
from bot.domain.money.quota import Balance, Wallet, format_usd
from bot.domain.money.spendable import Spendable
from cogs.text import facts, formatting, limits_left, spending, spending_report
from cogs.text.locale import Phrase, option_name
from cogs.ui import card, components
from cogs.ui.components import Layout

BAR_CELLS = 20
MAX_MODELS_CHARACTERS = 3_600


def bar(balance: Balance) -> str:
    """Return the amounts spent, reserved and left as twenty cells of text."""
    limit = balance.limit_usd_micros
    if not limit:
        return "░" * BAR_CELLS
    spent = min(BAR_CELLS, round(BAR_CELLS * balance.spent_usd_micros / limit))
    held = min(BAR_CELLS - spent, round(BAR_CELLS * balance.set_aside_usd_micros / limit))
    return "█" * spent + "▒" * held + "░" * (BAR_CELLS - spent - held)


def page(
    balance: Balance,
    jobs: Sequence[tuple[Job, str]],
    *,
    spendable: Spendable | None,
    sku_ids: Sequence[int] = (),
) -> Layout:
    """Lay out a member's own balance and the last jobs of the period; `spendable` is None for the previous one.

    `sku_ids` are what they can buy for their wallet; not offered where a wallet would not help.
    """
    previous = spendable is None
    title = spending.PREVIOUS_TITLE() if previous else spending.TITLE()
    lines = [f"### {title}", balance_lines(balance, spending.SOURCES, spendable=spendable)]
    if spendable is not None and not spendable.is_helped_by_wallet:
        sku_ids = ()
    if spendable is not None and (binding := limits_left.binding(spendable, sells_credit=bool(sku_ids))):
        lines.append(binding)
    parts = [components.text_display("\n".join(lines))]
    if previous or balance.limit_usd_micros != 0:
        ends = spending.ENDED if previous else spending.RESETS
        parts.append(
            components.text_display(
                f"-# {ends(when=formatting.moment(balance.window.end))} ({formatting.day(balance.window.end)})"
            )
        )
    parts.append(components.separator())
    lines = [f"**{spending.JOBS()}**", *(_job_line(job, label) for job, label in jobs)]
    if not jobs:
        lines = [spending_report.REPORT_EMPTY() if previous else spending.NO_JOBS()]
    parts.append(components.text_display("\n".join(lines)))
    return components.container([*parts, *card.top_ups(sku_ids)], accent=card.NOTE_ACCENT)


def balance_lines(balance: Balance, sources: Mapping[str, Phrase], *, spendable: Spendable | None = None) -> str:
    """Return the bar, the amounts and the quota; `sources` has the words for the source of the quota.

    What is left is the least of all limits where these are known.
    """
    role = f"<@&{balance.quota.role_id}>" if balance.quota.role_id else ""
    source = sources[balance.quota.source.value](role=role)
    lines = [
        f"`{bar(balance)}`",
        formatting.left(
            balance.available_usd_micros if spendable is None else spendable.left_usd_micros,
            spending.BALANCE,
            spending.BALANCE_UNLIMITED,
            spent=format_usd(balance.spent_usd_micros),
            set_aside=format_usd(balance.set_aside_usd_micros),
        ),
        spending.QUOTA(quota=spending.quota(balance.quota), source=source),
    ]
    if spendable is not None and spendable.wallet.total_usd_micros:
        lines.append(wallet_line(spendable.wallet))
    if balance.granted_usd_micros:
        lines.append(spending.GRANTED_NOW(amount=format_usd(balance.granted_usd_micros)))
    return "\n".join(lines)


def wallet_line(wallet: Wallet) -> str:
    """Return what is in a member's wallet."""
    return spending.WALLET(
        left=format_usd(wallet.available_usd_micros), set_aside=format_usd(wallet.set_aside_usd_micros)
    )


def _job_line(job: Job, model_label: str) -> str:
    price = format_usd(job.charged_usd_micros or 0) if job.status.is_final else format_usd(job.reserved_usd_micros)
    moderated = job.failure is not None and job.failure.reason is FailureReason.MODERATED
    prompt = (
        "" if moderated or job.erased_at else f"\n-# `{formatting.inline(formatting.shorten(job.request.prompt, 60))}`"
    )
    return f"{card.state(job.status)} · {model_label} · {price} · {formatting.moment(job.created_at)}{prompt}"


def models(offered: Sequence[Model], default_id: str) -> Layout:
    """Lay out every model that can be ordered here, cheapest first; the default one is marked."""
    lines: list[str] = []
    for item in sorted(offered, key=lambda model: model.starting_usd_micros or 0):
        low, high = item.price_range or (0, 0)
        price = format_usd(low) if low == high else f"{format_usd(low)} – {format_usd(high)}"
        mark = f" · {spending.DEFAULT()}" if item.id == default_id else ""
        lines.append(f"**{item.label}** · {price}{mark}\n-# `{item.id}`{_ending(item)}")
    text = "\n".join(lines)
    while len(text) > MAX_MODELS_CHARACTERS:
        lines.pop()
        text = "\n".join([*lines, "…"])
    parts = [
        components.text_display(f"### {spending.MODELS_TITLE()}"),
        components.text_display(text),
        components.text_display(f"-# {spending.MODELS_HINT()}"),
    ]
    return components.container(parts, accent=card.NOTE_ACCENT)


def _ending(item: Model) -> str:
    """Say when the provider withdraws the model, where it said so."""
    return "" if item.ends_at is None else f" · {spending.MODEL_ENDS(when=formatting.date(item.ends_at))}"


_COMMANDS = {JobKind.IMAGINE: "/imagine", JobKind.EDIT: "/edit"}


def _takes(item: Model) -> Iterator[str]:
    """Yield a line for everything that can be set in orders of the model, and what it has to be.

    Attached images have other names in each command; what is not the same in both is said of one.
    """
    kinds = [kind for kind in _COMMANDS if item.supports(kind)] or [JobKind.UPSCALE]
    takes = {kind: dict(_taken_by(item, kind)) for kind in kinds}
    for line in dict.fromkeys(line for lines in takes.values() for line in lines.items()):
        commands = [_COMMANDS[kind] for kind in kinds if takes[kind].get(line[0]) == line[1]] if len(kinds) > 1 else []
        name, text = line
        command = f"`{commands[0]}` " if len(commands) == 1 else ""
        yield f"{command}`{option_name(name)}`{': ' + text if text else ''}"


def _taken_by(item: Model, kind: JobKind) -> Iterator[tuple[str, str]]:
    found = {each.name: each for each in parameters.parameters_of(item, kind)}
    for name in parameters.options_of(item, kind):
        yield name, facts.accepted(found[name].constraint) if name in found else ""


def model(item: Model, *, refusal: str | None = None) -> Layout:
    """Lay out what one model can do and what it costs, and why the member cannot order it here."""
    can = ", ".join(spending.MODEL_MODES[mode]() for mode in item.modes if mode in spending.MODEL_MODES)
    lines = [f"### {item.label}", f"`{item.id}`{_ending(item)}", can[:1].upper() + can[1:]]
    lines += [f"-# {line}" for line in _takes(item)]
    prices = [
        " · ".join(filter(None, (format_usd(amount), facts.price_for(conditions))))
        for conditions, amount in item.price_table()
    ]
    lines.append("\n".join(prices) if item.orderable and prices else spending.MODEL_NO_PRICE())
    if refusal is not None:
        lines.append(refusal)
    return card.note(formatting.shorten("\n".join(lines), 3_900))
