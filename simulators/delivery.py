"""Handing an outbox to the broker over aiomqtt, with acknowledgement message by message.

Shared by the simulated gateways and the replay. Raises the first `aiomqtt.MqttError` after everything that was not
acknowledged is back in the outbox, in its order; the caller reconnects and calls again.
"""

import asyncio

import aiomqtt

from simulators.outbox import Message, Outbox

WINDOW = 16  # messages in flight; paho holds back more than 20


async def deliver(client: aiomqtt.Client, outbox: Outbox, most: int = WINDOW) -> list[Message]:
    """Publish up to `most` waiting messages with QoS 1; returns those the broker acknowledged, empty when nothing
    waited.
    """
    batch = outbox.take(most)
    if not batch:
        return batch
    try:
        outcomes = await asyncio.gather(
            *(client.publish(message.topic, message.payload, qos=1) for message in batch), return_exceptions=True
        )
    except asyncio.CancelledError:
        outbox.put_back(batch)
        raise
    sent = [message for message, outcome in zip(batch, outcomes, strict=True) if not isinstance(outcome, BaseException)]
    for message in sent:
        outbox.confirm(message)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        outbox.put_back(
            message for message, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, BaseException)
        )
        raise failures[0]
    return sent
