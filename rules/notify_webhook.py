"""Notifications as signed HTTP POST requests to an address that an administrator configured.

Receives notifications; sends each as JSON with `Idempotency-Key` (equal in every attempt), `X-Timestamp` (seconds
since the epoch) and, where a secret is set, `X-Signature: sha256=<hex HMAC-SHA256 over timestamp, a full stop and the
body>`. The receiver checks the signature and the age of the timestamp, and drops keys it has seen.

Any 2xx is taken as received. 400, 413, 415 and 422 refuse this notification for good. Everything else, a redirect and a
refused credential included, is retried by the outbox: a person may mend it, and the alarm must then still arrive.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable

import httpx
import msgspec

from devices.errors import ConfigError, TransientError
from rules.documents import Notification
from rules.notifiers import Undeliverable
from rules.safe_http import AddressRefused, Resolver, open_client, resolve

_TIMEOUT = 10.0  # seconds, for a whole attempt
_ANSWER = 65_536  # bytes; a longer answer costs its connection
_REFUSED = frozenset({400, 413, 415, 422})


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `X-Signature`."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookNotifier:
    """Target `webhook`. Raises `ConfigError` at construction for a URL that is not plain http or https."""

    mirrors = False

    def __init__(
        self,
        url: str,
        secret: str = "",
        *,
        name: str = "webhook",
        allow_private: bool = False,
        resolver: Resolver = resolve,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"webhook url: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
            raise ConfigError("webhook url: expected http(s)://host[:port]/path without a user name")
        self.name = name
        self._url = parts
        self._secret = secret
        self._clock = clock
        self._allow_private = allow_private
        self._resolver = resolver
        self._client: httpx.AsyncClient | None = None

    async def send(self, notification: Notification) -> None:
        """POST it; see the module docstring for what the answers mean."""
        body = msgspec.json.encode(notification)
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": notification.id,
            "X-Timestamp": timestamp,
        }
        if self._secret:
            headers["X-Signature"] = signature(self._secret, timestamp, body)
        if self._client is None:
            self._client = open_client(self._allow_private, _TIMEOUT, self._resolver)
        try:
            async with asyncio.timeout(_TIMEOUT):
                async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                    status, retry_after = response.status_code, response.headers.get("Retry-After", "")
                    await _read_through(response)
        except AddressRefused as error:
            raise Undeliverable(f"webhook: {error}") from error
        except TimeoutError as error:
            raise TransientError(f"webhook: no answer within {_TIMEOUT:g} s") from error
        except httpx.TransportError as error:
            raise TransientError(f"webhook: {error}") from error
        if 200 <= status < 300:
            return
        if status in _REFUSED:
            raise Undeliverable(f"webhook: HTTP {status}")
        raise TransientError(f"webhook: HTTP {status}", float(retry_after) if retry_after.isdigit() else None)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


async def _read_through(response: httpx.Response) -> None:
    """To the end of a short answer, so that its connection can be used again."""
    length = 0
    async for part in response.aiter_raw():
        length += len(part)
        if length > _ANSWER:
            return
