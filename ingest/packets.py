"""Bytes from the broker to `Message`s: what of a read buffer is complete, in the order in which it came.

Pure: the buffer is left as it is, the caller drops what was used. Raises `ValueError` for what no broker may send; a
packet that is not yet complete is no error. Clauses of MQTT 5.0: 2.2.1 (packet identifier), 3.3 (PUBLISH).
"""

from collections.abc import Callable

import mqtt5

from devices.model import Milliseconds
from storage.journal import Message


def parse(
    buffer: bytearray, source_of: Callable[[str], str], generation: int, received_at: Milliseconds
) -> tuple[list[Message], list[object], int]:
    """(messages, other packets, bytes used) of all complete packets in `buffer`."""
    messages: list[Message] = []
    others: list[object] = []
    publish = mqtt5.PublishPacket
    used, end = 0, len(buffer)
    with memoryview(buffer) as view:
        while used < end:
            try:
                packet, length = mqtt5.read(view[used:])
            except IndexError:
                break
            except BaseException as error:
                # invalid UTF-8 makes the codec panic with a BaseException of its own
                if type(error).__name__ != "PanicException":
                    raise
                raise ValueError(f"codec: {error}") from None
            used += length
            if type(packet) is publish:
                topic, identifier, user = packet.topic, packet.packet_id, packet.user_properties
                if identifier == 0:
                    raise ValueError("PUBLISH with packet identifier 0")
                messages.append(
                    Message(
                        source_of(topic),
                        topic,
                        packet.payload,
                        0 if identifier is None else 1,
                        packet.retain,
                        packet.duplicate,
                        identifier or 0,
                        generation,
                        received_at,
                        dict(user) if user else None,
                    )
                )
            else:
                others.append(packet)
    return messages, others, used
