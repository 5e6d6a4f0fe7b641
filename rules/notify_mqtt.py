"""Alarm transitions on MQTT 5: `songhua/v1/alarms/{district}/{alarm}`, QoS 1, not retained.

Receives notifications; publishes each as JSON and returns when the broker has acknowledged it. It mirrors every
transition (see `rules.notifiers`). Not retained: the state of the alarms is read from the API, and a retained alarm
would outlive its episode. Notifications about the service itself go to `songhua/v1/alarms/system/{kind}`. Owns one
connection, opened at the first `send` and again after it broke; whatever breaks it is a `TransientError`, and the
outbox sends again. MQTT 5 because 3.1.1 hides a refused publication.
"""

import asyncio
import secrets
import ssl
from urllib.parse import unquote, urlsplit

import aiomqtt
import msgspec

from devices.errors import ConfigError, TransientError
from rules.documents import Notification

_TIMEOUT = 5.0  # seconds, for connecting and for an acknowledgement
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttNotifier:
    """Target `mqtt`; `url` is `mqtt[s]://[user:password@]host[:port]`. Raises `ConfigError` for any other."""

    name = "mqtt"
    mirrors = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in _PORTS or not parts.hostname or port == 0:
            raise ConfigError("mqtt url: expected mqtt[s]://[user:password@]host[:port]")
        self._parts = parts
        self._client: aiomqtt.Client | None = None
        self._connecting = asyncio.Lock()

    async def send(self, notification: Notification) -> None:
        """Publish it and wait for the broker's acknowledgement."""
        client = await self._connected()
        try:
            await client.publish(topic_of(notification), msgspec.json.encode(notification), qos=1)
        except (aiomqtt.MqttError, ValueError) as error:
            await self._drop(client)
            raise TransientError(f"mqtt: {error}") from error

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._drop(self._client)

    async def _connected(self) -> aiomqtt.Client:
        async with self._connecting:
            if self._client is None:
                client = self._new_client()
                try:
                    await client.__aenter__()
                except aiomqtt.MqttError as error:
                    raise TransientError(f"mqtt: {error}") from error
                self._client = client
            return self._client

    async def _drop(self, client: aiomqtt.Client) -> None:
        """Forget a connection; a new client starts afresh, so nothing half-sent is delivered late by the old one."""
        if self._client is client:
            self._client = None
            try:
                await client.__aexit__(None, None, None)
            except aiomqtt.MqttError:
                pass

    def _new_client(self) -> aiomqtt.Client:
        parts = self._parts
        return aiomqtt.Client(
            hostname=parts.hostname or "",
            port=parts.port or _PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            identifier=f"songhua-alarms-{secrets.token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=ssl.create_default_context() if parts.scheme == "mqtts" else None,
            timeout=_TIMEOUT,
        )


def topic_of(notification: Notification) -> str:
    """Where `notification` is published."""
    if notification.alarm is None:
        return f"songhua/v1/alarms/system/{notification.kind}"
    return f"songhua/v1/alarms/{notification.alarm['district']}/{notification.alarm['id']}"
