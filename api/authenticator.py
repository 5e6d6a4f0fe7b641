"""Finds the holder of a secret that a request shows; blocking queries run in worker threads.

Raises nothing of its own: a database that does not answer surfaces as SQLAlchemy's error, which becomes a 503.
"""

import asyncio
from collections.abc import Iterable
from typing import Literal

from sqlalchemy import Engine

from api.clock import Clock
from api.credentials import Principal, fingerprint, identify
from devices.model import Milliseconds

_REMEMBERED_FOR: Milliseconds = 2_000  # a revoked credential is refused within this; the promise is 5 s
_REMEMBERED = 10_000


class Authenticator:
    """Remembers a positive answer for 2 s, so that a busy client costs no query per request."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._remembered: dict[str, tuple[Principal, Milliseconds]] = {}

    async def find(self, secret: str, kind: Literal["token", "session"]) -> Principal | None:
        """None where the secret is unknown, expired or revoked."""
        credential = fingerprint(secret)
        now = self._clock()
        principal, checked_at = self._remembered.get(credential, (None, 0))
        if principal is None or principal.kind != kind or not 0 <= now - checked_at < _REMEMBERED_FOR:
            principal = await asyncio.to_thread(identify, self._engine, credential, kind, now)
            self._remember(credential, principal, now)
        if principal is not None and principal.expires_at is not None and principal.expires_at <= now:
            return None
        return principal

    async def still_good(self, principals: Iterable[Principal]) -> frozenset[str]:
        """Which of these credentials are good right now (asked for open streams)."""
        distinct = {principal.credential: principal for principal in principals}
        now = self._clock()

        def ask() -> frozenset[str]:
            return frozenset(
                credential
                for credential, principal in distinct.items()
                if identify(self._engine, credential, principal.kind, now) is not None
            )

        return await asyncio.to_thread(ask) if distinct else frozenset()

    def forget(self, principal: Principal) -> None:
        """Ask the database again at the next request (after a logout)."""
        self._remembered.pop(principal.credential, None)

    def _remember(self, credential: str, principal: Principal | None, now: Milliseconds) -> None:
        if principal is None:
            self._remembered.pop(credential, None)
            return
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[credential] = (principal, now)
