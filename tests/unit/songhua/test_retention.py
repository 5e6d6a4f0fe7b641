"""Old readings are dropped when somebody asked for it, and a store that is away is asked again."""

import asyncio
import time

import pytest

from devices.errors import TransientError
from songhua import retention

DAY = 86_400_000


class Store:
    """Records the bounds that it is asked for; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.bounds: asyncio.Queue[int] = asyncio.Queue()

    async def retain(self, since: int) -> None:
        self.bounds.put_nowait(since)
        if self.failures:
            self.failures -= 1
            raise TransientError("away")


async def _two_bounds(store: Store, keep: int) -> tuple[int, int]:
    task = asyncio.create_task(retention.follow(store, keep))
    try:
        async with asyncio.timeout(5):
            return await store.bounds.get(), await store.bounds.get()
    finally:
        task.cancel()


async def test_what_is_older_is_dropped_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY", 0.01)
    before = time.time_ns() // 1_000_000
    first, second = await _two_bounds(Store(), 30 * DAY)
    assert before - 30 * DAY <= first < second


async def test_a_store_that_is_away_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AGAIN_AFTER", 0.01)
    await _two_bounds(Store(failures=1), 30 * DAY)


async def test_without_a_bound_everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY", 0.0)
    store = Store()
    task = asyncio.create_task(retention.follow(store, 0))
    await asyncio.sleep(0.05)
    assert not task.done()
    assert store.bounds.empty()
    task.cancel()
