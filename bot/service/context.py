"""What the parts of the service share in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from bot.dispatch.coordinator import Coordinator
from bot.domain.presenter import DeferredPresenter
from bot.media.blob_store import BlobStore
from bot.media.image_pool import ImagePool
from bot.runtime.interactive_priority import InteractivePriority
from bot.runtime.metrics import Metrics
from bot.runtime.sealing import Sealer
from bot.runtime.supervisor import Supervisor
from bot.runtime.trusted_clock import utc_now
from bot.service.execution.in_flight import InFlightJobs
from bot.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceContext:
    """The shared parts, opened by the composition root. Each class takes from it what it uses, in its constructor."""

    store: Store
    blob_store: BlobStore
    image_pool: ImagePool
    coordinator: Coordinator
    supervisor: Supervisor
    sealer: Sealer
    presenter: DeferredPresenter = field(default_factory=DeferredPresenter)
    in_flight: InFlightJobs = field(default_factory=InFlightJobs)
    metrics: Metrics = field(default_factory=Metrics)
    priority: InteractivePriority = field(default_factory=InteractivePriority)
    clock: Callable[[], datetime] = utc_now
