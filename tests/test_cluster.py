"""Several processes on one PostgreSQL, as real ones beside a local Discord and a provider, killed and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import a_cluster

pytestmark = pytest.mark.slow


async def test_a_gateway_takes_orders_and_a_worker_sees_to_them(tmp_path: Path) -> None:
    async with a_cluster(tmp_path, "gateway-0", "worker-1") as here:
        order = await here.imagine("a lighthouse")
        await here.settled()
        assert "Completed" in order.text
        here.audit()
        assert here.logged_failures() == []
        for name in ("worker-1", "gateway-0"):
            status, seconds = await here.processes[name].stop()
            assert status == 0, here.last_words()
            assert seconds < 10
