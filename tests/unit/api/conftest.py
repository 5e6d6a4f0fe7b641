"""A city and a client for each test; the application's lifespan runs around it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.api_city import City


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(str(tmp_path / "songhua.db"))


@pytest.fixture
async def client(city: City) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the application in this process; sends no credential of its own."""
    transport = httpx.ASGITransport(city.app, client=("192.0.2.7", 40000))
    async with (
        city.app.router.lifespan_context(city.app),
        httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client,
    ):
        yield client
