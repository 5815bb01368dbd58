"""Real versions of Django, and one project that is as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from settings_check.interpreters import PYTHONS, environment
from settings_check.service import Service, make_service
from settings_check.version import Django


@pytest.fixture(scope="session")
def environments() -> dict[str, Path]:
    """Make those that are missing, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(PYTHONS, pool.map(environment, PYTHONS)))
    found = {version: python for version, python in made.items() if python}
    assert found, "no Python from 3.9 to 3.13 was found"
    return found


@pytest.fixture(scope="session", params=PYTHONS)
def django(
    request: pytest.FixtureRequest, environments: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Django]:
    version: str = request.param
    if version not in environments:
        pytest.skip(f"Django {version} needs Python {' or '.join(PYTHONS[version])}, and none of them was found")
    found = Django(version, environments[version], tmp_path_factory.mktemp(f"django-{version}"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def service_of_session() -> Iterator[Service]:
    with make_service() as made:
        yield made


@pytest.fixture
def service(service_of_session: Service) -> Service:
    service_of_session.write()
    return service_of_session
