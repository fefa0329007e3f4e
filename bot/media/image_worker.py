"""Image worker: the child process of ImagePool, which decodes, checks and re-encodes images.

Run by the pool as `python -m bot.media.image_worker`, with the arguments of `subprocess_child.serve`.
"""

from __future__ import annotations

from typing import Any

from bot.media import image_ops
from bot.runtime.subprocess_child import serve

_MAX_RESIDENT_BYTES = 128 << 20


def handle(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Run the operation that the request names. An unusable image is a response with its `reason` and `limits`."""
    try:
        match request["operation"]:
            case "check":
                content_type, width, height = image_ops.check(data)
                return {"content_type": content_type, "width": width, "height": height}, b""
            case "shrink_to":
                encoded, content_type, extension, changed = image_ops.shrink_to(data, request["limit_bytes"])
                return {"content_type": content_type, "extension": extension, "changed": changed}, encoded
            case "clean":
                encoded, content_type, width, height = image_ops.clean(data)
                return {"content_type": content_type, "width": width, "height": height}, encoded
            case "has_location":
                return {"has_location": image_ops.has_location(data)}, b""
            case operation:
                raise AssertionError(f"no such operation: {operation}")
    except image_ops.UnusableImageError as error:
        return {"reason": error.reason, "limits": error.limits}, b""
    except MemoryError:
        return {"reason": "too_many_pixels", "limits": {}}, b""


if __name__ == "__main__":
    serve(handle, max_resident_bytes=_MAX_RESIDENT_BYTES)
