"""Whatever a client sends to a project's routes, responses are as /openapi.json describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings

from tests.server.live_server import LiveServer, run_server
from tests.server.project.conftest import make_project
from tests.server.project.project_client import TOKEN_HEADER, ProjectClient

pytestmark = pytest.mark.slow
N_REQUESTS = 25
"""Per operation."""
ENDLESS = "GET /project/events"


@pytest.fixture(scope="module")
def own_server(exported_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve a project that no other test looks at: labels, classes and jobs are changed at random."""
    root = make_project(tmp_path_factory.mktemp("fuzzed") / "kidney", exported_model)
    with run_server(["--model", exported_model, "--reference-data", "none", "--project", root]) as server:
        yield server


def test_responses_are_as_the_description_says(own_server: LiveServer) -> None:
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    # What is valid by the description may still name a cell or a class that isn't there.
    excluded: list[Any] = [positive_data_acceptance]
    token = ProjectClient(own_server).token
    schema = schemathesis.openapi.from_url(f"{own_server.address}/openapi.json")
    operations: list[Any] = [cast(Any, result).ok() for result in schema.get_all_operations()]
    of_project = {
        f"{operation.method.upper()} {operation.path}": operation
        for operation in operations
        if operation.path.startswith("/project")
    }
    of_project.pop(ENDLESS)
    assert len(of_project) > 20
    for operation in of_project.values():

        @given(case=operation.as_strategy())
        @settings(max_examples=N_REQUESTS, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        def respond_as_described(case: Any) -> None:
            headers = {TOKEN_HEADER: token}
            case.call_and_validate(base_url=own_server.address, headers=headers, timeout=60, excluded_checks=excluded)

        respond_as_described()
    assert own_server.process.poll() is None
