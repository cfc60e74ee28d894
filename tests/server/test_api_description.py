"""Whatever a client sends, responses are as /openapi.json describes them; requests are made from that description."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings

from tests.server.live_server import LiveServer

pytestmark = pytest.mark.slow
N_REQUESTS = 40
"""Per operation."""
OPERATIONS = {
    *("POST /predict", "POST /predict/batch", "POST /predict/stack"),
    *("GET /health", "GET /version", "GET /models", "GET /metrics"),
}


def test_responses_are_as_the_description_says(server: LiveServer) -> None:
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    operations: list[Any] = [cast(Any, result).ok() for result in schema.get_all_operations()]
    assert {f"{operation.method.upper()} {operation.path}" for operation in operations} == OPERATIONS
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=N_REQUESTS, database=None, suppress_health_check=list(HealthCheck))
        def respond_as_described(case: Any) -> None:
            case.call_and_validate(base_url=server.address, timeout=60)

        respond_as_described()
