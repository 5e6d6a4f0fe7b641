"""When the rules are told that nothing can reach us."""

import time
from pathlib import Path

from songhua.ingest_parts import Parts
from songhua.settings import Settings


async def refresh() -> None:
    return None


def test_a_broker_not_heard_for_seconds_or_a_refusing_journal_makes_us_deaf(tmp_path: Path) -> None:
    parts = Parts(Settings(var=tmp_path), refresh)
    assert parts.deaf_since() is None
    now = time.time()
    parts.pipeline.refused_since = int(now * 1000) - 60
    assert parts.deaf_since() == int(now * 1000) - 60
    parts.session.clock = lambda: time.time() - 10
    assert parts.deaf_since() == parts.session.heard_at
    parts.pipeline.refused_since = None
    assert parts.deaf_since() == parts.session.heard_at
    parts.session.clock = lambda: time.time() - 1
    assert parts.deaf_since() is None
