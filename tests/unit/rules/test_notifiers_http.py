"""Webhooks: signed, told apart by key, and never into our own network."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import httpcore
import httpx
import pytest

from devices.errors import ConfigError, TransientError
from rules import notify_webhook
from rules.documents import Notification, build_notification
from rules.model import State
from rules.notifiers import Undeliverable
from rules.notify_webhook import WebhookNotifier, signature
from rules.safe_http import AddressRefused, open_client, refusal
from tests.unit.rules.test_repository import alarm, transition

NOTIFICATION = build_notification(transition(alarm("a", State.UNACK)), "webhook")

REFUSED = (
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.0.0.1", "10.0.0.1", "10.255.255.255"),
    *("172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.169.254", "169.254.0.1"),
    *("100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::2", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fc00::1", "fd00::1", "fd00:ec2::254"),
    *("fdff:ffff::1", "ff02::1", "ff0e::1", "fec0::1", "100::1", "2001:db8::1", "2001:10::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:192.168.1.1", "::ffff:0.0.0.0"),
    *("::ffff:100.100.100.200", "::127.0.0.1", "::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "2002:a9fe:a9fe::"),
    *("2002:c0a8:101::", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
)
ALLOWED = ("1.1.1.1", "8.8.8.8", "114.114.114.114", "172.15.255.255", "172.32.0.1", "100.63.255.255", "2606:4700::1111")
PRIVATE = ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:127.0.0.1")
NEVER = (
    *("169.254.169.254", "169.254.0.1", "100.100.100.200", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"),
    *("64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "192.0.0.192", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "ff02::1", "::127.0.0.1"),
)


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_refused(address: str) -> None:
    assert refusal(address) is not None


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_admitted(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_can_be_admitted_on_purpose(address: str) -> None:
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_reserved_addresses_are_never_admitted(address: str) -> None:
    assert refusal(address, allow_private=True) is not None


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A plain HTTP/1.1 server on 127.0.0.1; `answer` gives the raw response to each request."""

    port: int = 0
    answer: Callable[[Received], bytes] = lambda request: b"HTTP/1.1 204 No Content\r\n\r\n"
    delay: float = 0.0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Received(first.split(" ")[1], headers, body)
                self.requests.append(request)
                await asyncio.sleep(self.delay)
                writer.write(self.answer(request))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def answering(status: str, *headers: str) -> Callable[[Received], bytes]:
    text = "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""])
    return lambda request: text.encode()


def resolving(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that gives one answer after the other, then the last for ever."""
    left = list(answers)

    async def resolver(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


async def test_a_webhook_is_signed_over_timestamp_and_body() -> None:
    async with serving() as server:
        url = f"http://127.0.0.1:{server.port}/hook?key=1"
        notifier = WebhookNotifier(url, "s3cret", allow_private=True, clock=lambda: 1_767_225_600.9)
        await notifier.send(NOTIFICATION)
        await notifier.send(NOTIFICATION)
        await notifier.close()
    first, second = server.requests
    assert first.path == "/hook?key=1"
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "a:1:webhook"
    assert first.headers["x-timestamp"] == "1767225600"
    assert first.headers["x-signature"] == signature("s3cret", "1767225600", first.body)
    assert first.headers["x-signature"] == ("sha256=" + _hmac_by_hand(b"s3cret", b"1767225600." + first.body))
    assert first.headers["content-type"] == "application/json"
    document = json.loads(first.body)
    assert document["alarm"]["title"] == {"zh": "表后爆管", "en": "Burst behind the meter"}
    assert server.connections == 1


def _hmac_by_hand(key: bytes, message: bytes) -> str:
    """HMAC-SHA256 spelled out (RFC 2104), independent of the code under test."""
    padded = key.ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return sha256(bytes(byte ^ 0x5C for byte in padded) + inner).hexdigest()


async def test_without_a_secret_there_is_no_signature() -> None:
    async with serving() as server:
        notifier = WebhookNotifier(f"http://127.0.0.1:{server.port}/", allow_private=True)
        await notifier.send(NOTIFICATION)
        await notifier.close()
    assert "x-signature" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("status", "headers", "error", "retry_after"),
    [
        ("400 Bad Request", (), Undeliverable, None),
        ("413 Too Large", (), Undeliverable, None),
        ("422 Unprocessable", (), Undeliverable, None),
        ("401 Unauthorized", (), TransientError, None),
        ("404 Not Found", (), TransientError, None),
        ("408 Timeout", (), TransientError, None),
        ("429 Too Many", ("Retry-After: 30",), TransientError, 30.0),
        ("429 Too Many", ("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT",), TransientError, None),
        ("500 Oops", (), TransientError, None),
        ("503 Busy", ("Retry-After: 5",), TransientError, 5.0),
        ("302 Found", ("Location: http://127.0.0.1:1/",), TransientError, None),
        ("307 Temporary", ("Location: /elsewhere",), TransientError, None),
    ],
)
async def test_answers_of_the_other_side(
    status: str, headers: tuple[str, ...], error: type[Exception], retry_after: float | None
) -> None:
    async with serving() as server:
        server.answer = answering(status, *headers)
        notifier = WebhookNotifier(f"http://127.0.0.1:{server.port}/", allow_private=True)
        with pytest.raises(error) as caught:
            await notifier.send(NOTIFICATION)
        await notifier.close()
    assert len(server.requests) == 1
    if isinstance(caught.value, TransientError):
        assert caught.value.retry_after == retry_after


async def test_nobody_listening_or_talking_nonsense_is_transient() -> None:
    async with serving() as server:
        port = server.port
        server.answer = lambda request: b"SMTP ready\r\n\r\n"
        notifier = WebhookNotifier(f"http://127.0.0.1:{port}/", allow_private=True)
        with pytest.raises(TransientError):
            await notifier.send(NOTIFICATION)
    with pytest.raises(TransientError):
        await notifier.send(NOTIFICATION)
    await notifier.close()


async def test_a_target_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_webhook, "_TIMEOUT", 0.1)
    async with serving() as server:
        server.delay = 30.0
        notifier = WebhookNotifier(f"http://127.0.0.1:{server.port}/", allow_private=True)
        with pytest.raises(TransientError):
            await notifier.send(NOTIFICATION)
        await notifier.close()


@pytest.mark.parametrize(
    "url", ["", "ftp://host/", "http://", "http://user:pw@host/", "file:///etc/passwd", "//host", "http://host:port/"]
)
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        WebhookNotifier(url)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a connection was opened to; none is really opened."""
    addresses: list[str] = []

    async def connect(self: object, host: str, *arguments: object) -> None:
        addresses.append(host)
        raise httpcore.ConnectError("nothing leaves this test")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    return addresses


@pytest.mark.parametrize("address", REFUSED)
async def test_a_name_that_resolves_into_our_network_connects_nowhere(address: str, connected: list[str]) -> None:
    notifier = WebhookNotifier("http://hook.example/", resolver=resolving([address]))
    with pytest.raises(Undeliverable, match=r"hook\.example is"):
        await notifier.send(NOTIFICATION)
    assert connected == []
    await notifier.close()


async def test_a_public_name_connects_to_its_address(connected: list[str]) -> None:
    notifier = WebhookNotifier("https://hook.example/", resolver=resolving(["1.1.1.1", "2606:4700::1111"]))
    with pytest.raises(TransientError):
        await notifier.send(NOTIFICATION)
    assert connected == ["1.1.1.1", "2606:4700::1111"]
    await notifier.close()


async def test_one_refused_address_among_many_refuses_the_name(connected: list[str]) -> None:
    notifier = WebhookNotifier("http://hook.example/", resolver=resolving(["1.1.1.1", "10.0.0.1"]))
    with pytest.raises(Undeliverable):
        await notifier.send(NOTIFICATION)
    assert connected == []
    await notifier.close()


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_spellings_of_the_loopback_address_reach_no_server(host: str) -> None:
    async with serving() as server, open_client(timeout=5.0) as client:
        with pytest.raises((AddressRefused, httpx.TransportError, httpx.InvalidURL)):
            await client.get(f"http://{host}:{server.port}/")
    assert server.connections == 0


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """Rebinding: the second answer of the DNS points inside, but nobody asks a second time for one connection."""
    asked: list[str] = []
    async with serving() as server:

        async def resolver(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        notifier = WebhookNotifier(f"http://hook.example:{server.port}/", allow_private=True, resolver=resolver)
        await notifier.send(NOTIFICATION)
        assert asked == ["hook.example"]
        assert server.requests[0].headers["host"] == f"hook.example:{server.port}"
        await notifier.close()
        with pytest.raises(Undeliverable, match="metadata"):
            await notifier.send(NOTIFICATION)
        await notifier.close()
    assert server.connections == 1


async def test_redirects_and_proxies_of_the_environment_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server, serving() as inside:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{inside.port}")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{inside.port}")
        server.answer = answering("302 Found", f"Location: http://127.0.0.1:{inside.port}/")
        async with open_client(allow_private=True) as client:
            response = await client.get(f"http://127.0.0.1:{server.port}/")
    assert response.status_code == 302
    assert inside.connections == 0


async def test_a_second_address_is_tried_where_the_first_does_not_answer() -> None:
    async with serving() as server:
        notifier = WebhookNotifier(
            f"http://hook.example:{server.port}/", allow_private=True, resolver=resolving(["127.0.0.9", "127.0.0.1"])
        )
        await notifier.send(NOTIFICATION)
        await notifier.close()
    assert len(server.requests) == 1


async def test_news_of_the_service_have_no_alarm() -> None:
    async with serving() as server:
        notifier = WebhookNotifier(f"http://127.0.0.1:{server.port}/", allow_private=True)
        await notifier.send(
            Notification(id="database_down:x", kind="database_down", at="x", title={"zh": "", "en": ""})
        )
        await notifier.close()
    assert json.loads(server.requests[0].body)["alarm"] is None
