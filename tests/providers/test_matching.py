"""Matching: what a list of jobs proves about an order."""

from __future__ import annotations

from typing import Any

import pytest

from bot.providers.base import RemoteJob
from bot.providers.matching import Match, match

PATH = "/generate/image/bfl/flux-1-dev"
BODY = {"prompt": "a red fox", "width": 1024, "seed": 7}
LISTED: dict[str, Any] = {"type": "externalImage", "model": "bfl/flux-1-dev", "input": BODY}


@pytest.mark.hostile("G-11")
@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({}, Match.FITS),
        ({"model": "flux-1-dev"}, Match.FITS),
        ({"model": PATH}, Match.FITS),
        ({"type": None}, Match.FITS),
        ({"input": BODY | {"style": None}}, Match.FITS),
        ({"type": "video"}, Match.EXCLUDED),
        ({"model": "1-dev"}, Match.EXCLUDED),
        ({"model": "google/nano-banana-2"}, Match.EXCLUDED),
        ({"input": BODY | {"prompt": "a red fix"}}, Match.EXCLUDED),
        ({"input": {"seed": 8}}, Match.EXCLUDED),
        ({"model": None}, Match.POSSIBLE),
        ({"input": None}, Match.POSSIBLE),
        ({"input": {"prompt": "a red fox"}}, Match.POSSIBLE),
        ({"input": BODY | {"style": "ink"}}, Match.POSSIBLE),
    ],
)
def test_only_the_same_model_and_request_body_prove_that_a_listed_job_is_ours(
    listed: dict[str, Any], expected: Match
) -> None:
    assert match(RemoteJob(remote_id="x", **(LISTED | listed)), path=PATH, body=BODY) is expected


def test_an_order_whose_request_body_is_not_known_any_more_is_proven_by_nothing() -> None:
    assert match(RemoteJob(remote_id="x", **LISTED), path=PATH, body=None) is Match.POSSIBLE
