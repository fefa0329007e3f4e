"""Chart worker: the child process of ChartRenderer, which draws one chart and ends.

Run by the pool as `python -m bot.charts.worker`, with the arguments of `subprocess_child.serve`.
"""

from __future__ import annotations

import logging
from typing import Any

from bot.charts.chart import Chart
from bot.runtime.processes.subprocess_child import serve


def handle(_: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Draw the chart of the JSON as a PNG."""
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # it logs a line about every font
    # Imports matplotlib, which must come after the limit of memory and the line above.
    from bot.charts import plot

    return {}, plot.draw(Chart.from_json(data))


if __name__ == "__main__":
    # matplotlib keeps 100 MB, and charts are rare; it reads fonts and writes a cache of them.
    serve(handle, max_resident_bytes=0, needs_files=True)
