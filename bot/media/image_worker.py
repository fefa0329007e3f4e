"""Image worker: the child process of ImagePool, which decodes, checks and re-encodes images.

Run by the pool as `python -m bot.media.image_worker`, with the arguments of `subprocess_child.serve`.
"""

from __future__ import annotations

from typing import Any

from bot.media import image_ops
from bot.runtime.processes.subprocess_child import serve

_MAX_RESIDENT_BYTES = 96 << 20


def handle(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Run the operation that the request names, within its `memory_bytes`.

    An unusable image is a response with its `reason` and `limits`, one that is too large for this process a response
    with `needs_more_memory`.
    """
    memory_bytes: int = request["memory_bytes"]
    try:
        match request["operation"]:
            case "check":
                content_type, width, height = image_ops.check(data, memory_bytes)
                return {"content_type": content_type, "width": width, "height": height}, b""
            case "fit":
                encoded, content_type, extension = image_ops.fit(
                    data, request["limit_bytes"], memory_bytes, is_result=request["is_result"]
                )
                return {"content_type": content_type, "extension": extension}, encoded
            case "clean":
                encoded, content_type, width, height = image_ops.clean(data, memory_bytes)
                return {"content_type": content_type, "width": width, "height": height}, encoded
            case "nothing":
                return {}, b""
            case operation:
                raise AssertionError(f"no such operation: {operation}")
    except image_ops.UnusableImageError as error:
        return {"reason": error.reason, "limits": error.limits}, b""
    except image_ops.NeedsMoreMemory as error:
        return {"needs_more_memory": True, "limit_pixels": error.limit_pixels}, b""
    except MemoryError:
        return {"needs_more_memory": True, "limit_pixels": image_ops.MAX_INPUT_SIDE**2}, b""


if __name__ == "__main__":
    serve(handle, max_resident_bytes=_MAX_RESIDENT_BYTES)
