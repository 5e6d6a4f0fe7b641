"""The session against a scripted broker: order of PUBACKs, generations, flow control, and every way to fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import mqtt5
import pytest

from ingest import connection as connection_module
from ingest.connection import Subscription
from ingest.endpoint import Endpoint
from ingest.inbox import Inbox
from ingest.packets import parse
from ingest.routing import source_of
from ingest.session import Session

CONNACK = mqtt5.ConnAckPacket(session_present=True).write()


def publish(identifier: int, payload: bytes = b"x", topic: str = "t") -> bytes:
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=identifier).write()


class ScriptedBroker:
    """Accepts connections, records what it receives, and lets the test write bytes."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.received: list[bytearray] = []
        self.greeting: bytes | None = CONNACK
        self.arrived = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        self.received.append(seen)
        self.connections.append(writer)
        if self.greeting is not None:
            writer.write(self.greeting)
        while data := await reader.read(65536):
            seen += data
            self.arrived.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.arrived.clear()
                await asyncio.wait({asyncio.ensure_future(self.arrived.wait())}, timeout=0.02)

    def pubacks(self, connection: int = -1) -> list[int]:
        data = bytes(self.received[connection])
        found, at = [], 0
        while at + 2 <= len(data):
            length = data[at + 1]
            if length >= 128:  # only CONNECT and SUBSCRIBE are longer than 127 bytes here
                length = (length & 127) + data[at + 2] * 128
                at += 1
            if data[at] == 0x40 or (data[at + 1] == 2 and data[at] == 0x40):
                found.append(int.from_bytes(data[at + 2 : at + 4], "big"))
            at += 2 + length
        return found


@asynccontextmanager
async def connected(
    broker: ScriptedBroker, inbox: Inbox, *, keep_alive: int = 60, expects_session: bool = False
) -> AsyncIterator[tuple[Session, list[tuple[bool, bool]]]]:
    server = await asyncio.start_server(broker.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    changes: list[tuple[bool, bool]] = []
    session = Session(
        Endpoint.parse(f"mqtt://127.0.0.1:{port}"),
        "ingest",
        [Subscription("songhua/#")],
        source_of,
        inbox,
        keep_alive=keep_alive,
        on_link=lambda up, resumed: changes.append((up, resumed)),
        expects_session=expects_session,
    )
    await session.start()
    try:
        yield session, changes
    finally:
        await session.stop()
        server.close()
        for writer in broker.connections:
            writer.close()


async def test_messages_are_acknowledged_in_order_and_only_when_told() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox):
        await broker.until(lambda: bool(broker.connections))
        broker.connections[0].write(publish(5) + publish(3) + publish(4))
        messages = await inbox.receive()
        while len(messages) < 3:
            messages += await inbox.receive()
        assert [m.packet_id for m in messages] == [5, 3, 4]
        assert broker.pubacks() == []
        inbox.acknowledge(messages)
        await broker.until(lambda: len(broker.pubacks()) == 3)
        assert broker.pubacks() == [5, 3, 4]


async def test_a_message_in_the_same_read_as_connack_is_not_forgotten() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    broker.greeting = CONNACK + publish(9)
    async with connected(broker, inbox):
        messages = await inbox.receive()
        inbox.acknowledge(messages)
        await broker.until(lambda: broker.pubacks() == [9])


async def test_a_late_acknowledgement_never_confirms_a_message_of_the_next_connection() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox) as (_, changes):
        await broker.until(lambda: bool(broker.connections))
        broker.connections[0].write(publish(1, b"old"))
        old = await inbox.receive()
        broker.connections[0].close()
        await broker.until(lambda: len(broker.connections) == 2)
        broker.connections[1].write(publish(1, b"new"))
        new = await inbox.receive()
        inbox.acknowledge(old)
        inbox.acknowledge(new)
        await broker.until(lambda: broker.pubacks() == [1])
        await asyncio.sleep(0.05)
        assert broker.pubacks() == [1]
        assert (old[0].generation, new[0].generation) == (1, 2)
        assert changes == [(True, True), (False, False), (True, True)]


async def test_a_forgotten_session_is_noticed_at_the_reconnect() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox) as (session, _):
        await broker.until(lambda: bool(broker.connections))
        broker.greeting = mqtt5.ConnAckPacket(session_present=False).write()
        broker.connections[0].close()
        await broker.until(lambda: session.sessions_lost == 1)


async def test_a_session_forgotten_while_we_were_away_is_noticed_at_the_first_connect() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    broker.greeting = mqtt5.ConnAckPacket(session_present=False).write()
    async with connected(broker, inbox, expects_session=True) as (session, _):
        await broker.until(lambda: session.sessions_lost == 1)


async def test_a_broker_that_comes_up_after_us_has_forgotten_nothing() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    broker.greeting = b"\x20\x03\x00\x88\x00"  # CONNACK: server unavailable
    async with connected(broker, inbox) as (session, changes):
        await broker.until(lambda: "UNAVAILABLE" in session.last_error)
        broker.greeting = mqtt5.ConnAckPacket(session_present=False).write()
        await broker.until(lambda: session.connected)
        assert inbox.generation > 1
        assert session.sessions_lost == 0
        assert changes == [(True, False)]


async def test_qos_0_is_delivered_and_needs_no_acknowledgement() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox):
        await broker.until(lambda: bool(broker.connections))
        broker.connections[0].write(mqtt5.PublishPacket("t", b"x").write())
        messages = await inbox.receive()
        assert (messages[0].qos, messages[0].packet_id) == (0, 0)
        inbox.acknowledge(messages)
        await asyncio.sleep(0.05)
        assert broker.pubacks() == []


async def test_the_socket_rests_while_too_much_waits_for_the_journal() -> None:
    broker, inbox = ScriptedBroker(), Inbox(window=10)
    async with connected(broker, inbox):
        await broker.until(lambda: bool(broker.connections))
        for round_ in range(50):
            broker.connections[0].write(b"".join(publish(round_ * 1000 + i + 1, b"x" * 5000) for i in range(200)))
        await asyncio.sleep(0.3)
        first = await inbox.receive()
        assert 10 <= len(first) < 10_000  # the rest is still at the broker or in the kernel
        taken = len(first)
        async with asyncio.timeout(10):
            while taken < 10_000:
                taken += len(await inbox.receive())


async def test_what_the_journal_refused_is_taken_again_in_front() -> None:
    inbox = Inbox()
    first, _, _ = parse(bytearray(publish(1) + publish(2)), source_of, 0, 0)
    second, _, _ = parse(bytearray(publish(3)), source_of, 0, 0)
    inbox.deliver(first)
    taken = await inbox.receive()
    inbox.deliver(second)
    inbox.put_back(taken)
    assert [m.packet_id for m in await inbox.receive()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED).write(), "NOT_AUTHORIZED"),
        (CONNACK + b"\xf0\xff\xff\xff\xff\xff", "protocol error"),
        (CONNACK + b"\x30\x05\x00\x01\xff\x00x", "protocol error"),  # a topic that is no UTF-8
        (CONNACK + publish(0x0101).replace(b"\x01\x01", b"\x00\x00"), "identifier 0"),
        (CONNACK + mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]).write(), "subscription refused"),
        (
            CONNACK + mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write(),
            "TAKEN_OVER",
        ),
        (CONNACK + b"\x30\xff\xff\xff\x7f" + b"x" * (4 * 1024 * 1024 + 10), "a packet above"),
    ],
)
async def test_what_a_broker_may_not_send_ends_the_connection_with_a_reason(greeting: bytes, words: str) -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    broker.greeting = greeting
    async with connected(broker, inbox) as (session, _):
        await broker.until(lambda: words in session.last_error)


async def test_a_broker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT", 0.1)
    broker, inbox = ScriptedBroker(), Inbox()
    broker.greeting = None
    async with connected(broker, inbox) as (session, _):
        await broker.until(lambda: len(broker.connections) >= 2)
        assert "no answer" in session.last_error


async def test_a_half_open_connection_is_noticed_by_keep_alive() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox, keep_alive=1) as (session, _):
        await broker.until(lambda: "has not answered" in session.last_error or len(broker.connections) >= 2)
        assert b"\xc0\x00" in bytes(broker.received[0])  # it was pinged before it was given up


async def test_a_quiet_broker_is_asked_and_a_hanging_one_is_heard_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_ASK_AFTER", 0.02)
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox) as (session, _):
        await broker.until(lambda: session.connected)
        connected_at = session.heard_at
        await broker.until(lambda: b"\xc0\x00" in bytes(broker.received[0]))
        assert abs(session.heard_at - connected_at) <= 2
        broker.connections[0].write(b"\xd0\x00")  # PINGRESP
        await broker.until(lambda: session.heard_at > connected_at + 10)


async def test_a_broker_that_refuses_us_is_not_heard() -> None:
    broker, inbox = ScriptedBroker(), Inbox()
    async with connected(broker, inbox) as (session, _):
        await broker.until(lambda: session.connected)
        connected_at = session.heard_at
        broker.greeting = b"\x20\x03\x00\x88\x00"  # CONNACK: server unavailable
        broker.connections[0].close()
        await broker.until(lambda: len(broker.connections) == 3)
        assert abs(session.heard_at - connected_at) <= 2


def test_an_incomplete_packet_waits_for_its_rest() -> None:
    data = publish(1) + publish(2)
    for cut in range(len(data)):
        head, _, used = parse(bytearray(data[:cut]), source_of, 1, 0)
        tail, _, _ = parse(bytearray(data[used:]), source_of, 1, 0)
        assert [m.packet_id for m in head + tail] == [1, 2]


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "mqtt://h:port", "mqtt://h/path", "h:1883", ""])
def test_a_wrong_broker_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(Exception, match="expected mqtt://"):
        Endpoint.parse(url)


def test_a_broker_url_may_hold_escaped_credentials() -> None:
    endpoint = Endpoint.parse("mqtts://ha%40rbin:p%3Aw@broker")
    assert (endpoint.username, endpoint.password, endpoint.port, endpoint.tls) == ("ha@rbin", "p:w", 8883, True)
