"""Retry budget: in bad weather, trying again must not become the weather. At most one retry for ten first attempts."""

from __future__ import annotations

SHARE = 0.1
RESERVE = 10.0
"""Retries that may be spent at once, so that a single failure in calm weather is tried again as often as it may."""


class RetryBudget:
    """Every first attempt earns a tenth of a retry, up to the reserve; every retry costs a whole one."""

    def __init__(self) -> None:
        self._retries = RESERVE

    def earn(self) -> None:
        """A first attempt is made."""
        self._retries = min(RESERVE, self._retries + SHARE)

    def spend(self) -> bool:
        """Whether one more retry is allowed; it counts as made."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True
