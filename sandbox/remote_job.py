"""RemoteJob: one accepted order at the simulated provider, and the queue that works accepted orders off."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.contracts import Contract
from sandbox.drawing import Sketch, size_of
from sandbox.plans import Ending, ErrorForm, Plan, Shape

# Seconds in each state: four to eight altogether, a little different for each job.
_KREA_WORDS = (
    ("queued", 0.6),
    ("scheduled", 0.5),
    ("processing", 1.6),
    ("sampling", 1.8),
    ("intermediate-complete", 1.2),
)
_PIXAZO_WORDS = (("queued", 1.2), ("processing", 4.6))
_FINAL_WORDS = frozenset({"completed", "failed", "cancelled", "error"})
_CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(kw_only=True, eq=False)
class RemoteJob:
    """One accepted order. `word` is the status in lower case; Pixazo shows it in upper case."""

    id: str
    contract: Contract
    body: Mapping[str, Any]
    plan: Plan
    price_usd_micros: int
    webhook_url: str | None
    images: tuple[tuple[str, bytes], ...]
    base: str
    word: str = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    completed_at: datetime | None = None
    results_read: int = 0
    billed_usd_micros: int = 0
    was_read: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_final(self) -> bool:
        return self.word in _FINAL_WORDS

    @property
    def succeeded(self) -> bool:
        return self.word == "completed"

    @property
    def words(self) -> tuple[tuple[str, float], ...]:
        """Return the states it passes through before its ending, each with its seconds."""
        usual = _KREA_WORDS if self.contract.provider == "krea" else _PIXAZO_WORDS
        own_pace = 0.75 + zlib.crc32(self.id.encode()) % 1000 / 1000 * 0.55
        return tuple(
            (word, seconds * own_pace * self.plan.seconds_factor) for word, seconds in self.plan.words or usual
        )

    # -- the image ------------------------------------------------------------------------------------

    @property
    def image_format(self) -> str:
        default = self.contract.fields.get("output_format", {}).get("default", "png")
        return str(self.body.get("output_format") or default)

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES.get(self.image_format, "image/png")

    def sketch(self) -> Sketch:
        """Return what to draw. Without a seed in the order the provider chooses one."""
        width, height = self._size()
        seed = self.body.get("seed")
        return Sketch(
            prompt=str(self.body.get("prompt", "")),
            seed=int(seed) if isinstance(seed, int | float) else zlib.crc32(self.id.encode()),
            width=width,
            height=height,
            sources=tuple(data for role, data in self.images if role == "source"),
            references=tuple(data for role, data in self.images if role == "reference"),
            keep=self.contract.kind == "enhance",
        )

    def _size(self) -> tuple[int, int]:
        factor = self.body.get(
            "image_scaling_factor", self.contract.fields.get("image_scaling_factor", {}).get("default")
        )
        if factor is None or "width" in self.contract.fields:
            return self.contract.size(self.body)
        source = next(data for role, data in self.images if role == "source")
        width, height = size_of(source)
        return self.contract.size({"width": round(width * factor), "height": round(height * factor)})

    @property
    def image_url(self) -> str:
        return f"{self.base}/pictures/{self.id}.{self.image_format}"

    @property
    def preview_url(self) -> str:
        return f"{self.base}/pictures/preview-{self.id}.png"

    # -- JSON -----------------------------------------------------------------------------------------

    def as_accepted(self) -> dict[str, Any]:
        """Return the answer to the order."""
        if self.contract.provider == "krea":
            return self.as_document() | {"result": None, "type": "externalImage"}
        return {
            "request_id": self.id,
            "status": "QUEUED",
            "polling_url": self.plan.polling_url or f"{self.base}/v2/requests/status/{self.id}",
        }

    def as_document(self) -> dict[str, Any]:
        """Return the job as a poll (or a callback) shows it."""
        document = self._as_krea() if self.contract.provider == "krea" else self._as_pixazo()
        if self.plan.states_cost and (self.succeeded or self.plan.bills_failure):
            document["cost_usd"] = self.price_usd_micros / 1_000_000
        return document

    def as_listed(self, tells_order: bool) -> dict[str, Any]:
        """Return the job as the list of jobs shows it."""
        listed = self.as_document() | {"type": "externalImage"}
        if tells_order:
            listed |= {"model": self.contract.path.split("/", 3)[3], "input": dict(self.body)}
        return listed

    def _as_krea(self) -> dict[str, Any]:
        result: dict[str, Any] | None = None
        if self.succeeded:
            result = {"urls": self._urls()} if self.plan.shape is not Shape.MISSING else {}
        elif self.word == "intermediate-complete":
            result = {"urls": [self.preview_url]}
        document: dict[str, Any] = {
            "job_id": self.id,
            "status": self.word,
            "created_at": _stamp(self.created_at),
            "completed_at": _stamp(self.completed_at) if self.completed_at else None,
            "result": result,
        }
        if self.word == "failed":
            match self.plan.error_form:
                case ErrorForm.OBJECT:
                    document["error"] = {"code": self._code, "message": self._message}
                case ErrorForm.TEXT:
                    document["error"] = self._message
                case ErrorForm.IN_RESULT:
                    document["result"] = {"error": self._message}
                case ErrorForm.NONE:
                    pass
        return document

    def _as_pixazo(self) -> dict[str, Any]:
        failed = self.word in ("failed", "error")
        output = {"media_url": self._urls(), "media_type": self.content_type} if self.succeeded else None
        return {
            "request_id": self.id,
            "status": self.word.upper(),
            "model_id": self.contract.path.split("/")[1],
            "error": self._message if failed and self.plan.error_form is not ErrorForm.NONE else None,
            "output": output,
            "created_at": _stamp(self.created_at),
            "updated_at": _stamp(datetime.now(UTC)),
            "completed_at": _stamp(self.completed_at) if self.completed_at else None,
        }

    def _urls(self) -> Any:
        urls = self.plan.first_urls if self.plan.first_urls and not self.results_read else self.plan.urls
        self.results_read += 1
        match self.plan.shape:
            case Shape.LIST if urls:
                filled = json.dumps(urls).replace("{base}", self.base).replace("{id}", self.id)
                return json.loads(filled)
            case Shape.LIST:
                return [self.image_url]
            case Shape.STRING:
                return self.image_url
            case Shape.TYPED:
                return [{"type": "preview", "url": self.preview_url}, {"type": "model", "url": self.image_url}]
            case Shape.NAMED:
                return {"preview": self.preview_url, "image": self.image_url}
            case Shape.EMPTY:
                return []
            case Shape.MISSING:
                return None

    @property
    def _code(self) -> str:
        return "nsfw" if self.plan.ending is Ending.MODERATED else self.plan.code

    @property
    def _message(self) -> str:
        if self.plan.ending is Ending.MODERATED:
            return f"The prompt was flagged by moderation: {self.body.get('prompt')}"
        return self.plan.message


class JobQueue:
    """Works off accepted jobs: at most `concurrency` at a time; the others wait in a backlog, first in, first out."""

    def __init__(
        self,
        *,
        seconds_scale: float,
        steps_by_reads: bool,
        concurrency: int,
        backlog: int,
        on_end: Callable[[RemoteJob], Awaitable[None]],
    ) -> None:
        self.jobs: dict[str, RemoteJob] = {}
        self.peak_in_flight = 0
        self._seconds_scale = seconds_scale
        self._steps_by_reads = steps_by_reads
        self._capacity = concurrency + backlog
        self._slots = asyncio.Semaphore(concurrency)
        self._on_end = on_end
        self._in_flight = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._callbacks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop all jobs; unfinished ones keep their state."""
        tasks = [*self._tasks.values(), *self._callbacks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def accept(self, job: RemoteJob) -> RemoteJob | None:
        """Accept the job; return None when the backlog is full."""
        if self._in_flight >= self._capacity:
            return None
        self.jobs[job.id] = job
        self._in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
        if self._slots.locked() and job.contract.provider == "krea":
            job.word = "backlogged"
        self._tasks[job.id] = asyncio.create_task(self._work(job), name=f"simulated job {job.id}")
        return job

    def cancel(self, job: RemoteJob) -> None:
        """End the job as cancelled; nothing is billed."""
        self._cut_short(job, "cancelled")

    def complete(self, job: RemoteJob) -> None:
        """End the job as completed, however long its plan is, and bill it."""
        if not job.is_final:
            job.billed_usd_micros = job.price_usd_micros
            self._cut_short(job, "completed")

    def _cut_short(self, job: RemoteJob, word: str) -> None:
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel()
        self._end(job, word)

    async def _work(self, job: RemoteJob) -> None:
        async with self._slots:
            for word, seconds in job.words:
                job.word = word
                await self._pause(job, seconds)
            match job.plan.ending:
                case Ending.COMPLETED:
                    job.billed_usd_micros = job.price_usd_micros
                    self._end(job, "completed")
                case Ending.FAILED | Ending.MODERATED:
                    job.billed_usd_micros = job.price_usd_micros if job.plan.bills_failure else 0
                    self._end(job, "failed")
                case Ending.ERROR:
                    self._end(job, "error" if job.contract.provider == "pixazo" else "failed")
                case Ending.CANCELLED:
                    self._end(job, "cancelled")
                case Ending.NEVER:
                    await asyncio.Event().wait()

    async def _pause(self, job: RemoteJob, seconds: float) -> None:
        if self._steps_by_reads:
            job.was_read.clear()
            await job.was_read.wait()
        else:
            await asyncio.sleep(seconds * self._seconds_scale)

    def _end(self, job: RemoteJob, word: str) -> None:
        if job.is_final:
            return
        job.word = word
        job.completed_at = datetime.now(UTC)
        self._in_flight -= 1
        self._tasks.pop(job.id, None)
        callback = asyncio.create_task(self._tell(job), name=f"end of simulated job {job.id}")
        self._callbacks.add(callback)
        callback.add_done_callback(self._callbacks.discard)

    async def _tell(self, job: RemoteJob) -> None:
        await self._on_end(job)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
