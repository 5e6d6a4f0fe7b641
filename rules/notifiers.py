"""The port `Notifier`: one way to tell somebody outside about an alarm, at least once, under an idempotency key.

Implementations: `rules.notify_log`, `rules.notify_webhook`, `rules.notify_mqtt`, `rules.notify_store`. The outbox calls
`send` again until it returns; the receiver tells repetitions by `Notification.id`, which is equal in every attempt.

Which transitions go where: a target that *pages* (log, webhook) gets those that the engine marked `notify`. A target
that *mirrors* (MQTT, the telemetry store) gets every transition, unpaged ones with `"notify": false`: what is shown
there is the state of the alarms and must not miss the end of an episode that was recorded without paging.
"""

from typing import Protocol

from devices.errors import SonghuaError
from rules.documents import Notification


class Undeliverable(SonghuaError):
    """The target refuses this notification for good; the outbox keeps it, visible as dead, and does not try again."""


class Notifier(Protocol):
    """A target. Constructing one connects nothing."""

    @property
    def name(self) -> str:
        """At most 32 characters; part of the idempotency key, so it must not change while rows are pending."""

    @property
    def mirrors(self) -> bool:
        """Whether it takes every transition, or only those that page."""

    async def send(self, notification: Notification) -> None:
        """Return once the target has it. Raises `TransientError` (try again, perhaps not before its `retry_after`) or
        `Undeliverable`; called concurrently for different alarms, in order for one alarm.
        """

    async def close(self) -> None:
        """Let go of connections; `send` may open them again."""
