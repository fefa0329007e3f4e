"""Files: what people upload, and what Discord keeps of it under a signed address."""

from __future__ import annotations

import io
import mimetypes
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file as a member uploads it."""

    filename: str
    data: bytes
    description: str | None = None

    @property
    def content_type(self) -> str:
        return mimetypes.guess_type(self.filename)[0] or "application/octet-stream"


@dataclass(kw_only=True, eq=False)
class Attachment:
    """A file that Discord keeps. Its address is signed and expires after `lives_seconds`; later it gets a new one."""

    id: int
    channel_id: int
    upload: Upload
    cdn_base: str
    lives_seconds: float
    description: str | None = None
    ephemeral: bool = False
    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def __post_init__(self) -> None:
        self.width, self.height = _picture_size(self.upload)
        self._issued = 0.0

    @property
    def url(self) -> str:
        now = time.time()
        if now > self._issued + self.lives_seconds / 2:  # the same address for some time, so that it can be cached
            self._issued = now
        issued, expires = int(self._issued), int(self._issued + self.lives_seconds)
        path = f"{self.cdn_base}/attachments/{self.channel_id}/{self.id}/{self.upload.filename}"
        return f"{path}?ex={expires:x}&is={issued:x}&hm={self.secret}"

    def payload(self) -> Json:
        url = self.url
        payload: Json = {
            "id": str(self.id),
            "filename": self.upload.filename,
            "size": len(self.upload.data),
            "url": url,
            "proxy_url": url,
            "content_type": self.upload.content_type,
        }
        if self.width:
            payload |= {"width": self.width, "height": self.height}
        if self.description:
            payload["description"] = self.description
        return payload | ({"ephemeral": True} if self.ephemeral else {})


def _picture_size(upload: Upload) -> tuple[int, int]:
    if not upload.content_type.startswith("image/"):
        return 0, 0
    try:
        with Image.open(io.BytesIO(upload.data)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return 0, 0
