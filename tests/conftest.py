"""Fixtures for the real parts. Where a part is absent the test is skipped with the reason, on CI it fails instead."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests import effort, parts

effort.choose_profile()


def _enter(stack: ExitStack, part: AbstractContextManager[parts.Part]) -> parts.Part:
    try:
        return stack.enter_context(part)
    except parts.PartMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; on CI every part must be present")
        pytest.skip(str(missing))


@pytest.fixture(scope="session", autouse=True)
def _only_settings_of_the_test() -> None:
    """Variables of whoever runs the tests reach neither songhua in this process nor the ones that tests start."""
    for name in [name for name in os.environ if name.upper().startswith("SONGHUA_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def influxdb() -> Iterator[parts.Part]:
    """One InfluxDB for the whole session; use a database of your own and leave it running."""
    with ExitStack() as stack:
        yield _enter(stack, parts.influxdb())


@pytest.fixture
def start_influxdb() -> Iterator[Callable[..., parts.Part]]:
    """Starts an InfluxDB of the test's own with the given options (see `parts.influxdb`)."""
    with ExitStack() as stack:
        yield lambda **options: _enter(stack, parts.influxdb(**options))


@pytest.fixture
def own_influxdb(start_influxdb: Callable[..., parts.Part]) -> parts.Part:
    """An InfluxDB of the test's own, to stop, kill and restart."""
    return start_influxdb()


@pytest.fixture
def start_mosquitto() -> Iterator[Callable[..., parts.Part]]:
    """Starts mosquitto with the given options (see `parts.mosquitto`); several calls give several brokers."""
    with ExitStack() as stack:
        yield lambda **options: _enter(stack, parts.mosquitto(**options))


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., parts.Part]) -> parts.Part:
    """A mosquitto of the test's own, open to everybody, persistent across `stop` and `start`."""
    return start_mosquitto()
