"""HTTP to addresses that people typed in, without becoming their door into our own network (server-side request
forgery).

Receives `httpx` requests; a name is resolved once and the connection goes to the very address that was checked, so
that a second answer of the DNS (rebinding) changes nothing; TLS still verifies the name. Redirects are not followed
and the environment's proxies are not used: either would connect somewhere unchecked. Owns the connection pool of one
client. Raises `AddressRefused`, which is final, and `httpx.TransportError`, which the caller may retry.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import httpcore
import httpx

from devices.errors import SonghuaError

Resolver = Callable[[str, int], Awaitable[list[str]]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(ipaddress.ip_address(text) for text in ("100.100.100.200", "fd00:ec2::254"))
_OURS = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7"),
    )
)
# What `is_global` of some Python versions lets through: IETF protocol assignments, 6to4 relays.
_SPECIAL = tuple(ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(SonghuaError):
    """The host resolves to an address that we do not talk to."""


def refusal(text: str, allow_private: bool = False) -> str | None:
    """Why nothing may connect to the address `text`, or None. `allow_private` admits loopback and private networks.

    Link-local, multicast and reserved addresses and the metadata services of cloud providers are never admitted. An
    IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64) is judged as what it is.
    """
    address = _unwrap(ipaddress.ip_address(text))
    if address in _METADATA or address.is_link_local:
        return "a link-local or metadata address"
    if any(address in network for network in _OURS):
        return None if allow_private else "a loopback or private address"
    unicast = address.version == 4 or address in _GLOBAL_UNICAST
    special = any(address in network for network in _SPECIAL)
    if not unicast or special or not address.is_global or address.is_multicast:
        return "not a public address"
    return None


def _unwrap(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
    return inner or address


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of `host` as the operating system orders them. Raises `OSError` where there are none."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections only to addresses that it has checked itself."""

    def __init__(self, allow_private: bool, resolver: Resolver) -> None:
        self._allow_private = allow_private
        self._resolver = resolver
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await asyncio.wait_for(self._resolver(host, port), timeout)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        for address in addresses:
            if reason := refusal(address, self._allow_private):
                raise AddressRefused(f"{host} is {address}, {reason}")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._close = close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._close()


class CheckedTransport(httpx.AsyncBaseTransport):
    """An `httpx` transport over `_CheckedBackend`; `resolver` is replaced in tests only."""

    def __init__(self, allow_private: bool = False, resolver: Resolver = resolve) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            network_backend=_CheckedBackend(allow_private, resolver),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the response's body is read as it is asked for."""
        try:
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except httpcore.TimeoutException as error:
            raise httpx.TimeoutException(str(error) or type(error).__name__, request=request) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.NetworkError(str(error) or type(error).__name__, request=request) from error
        body = _Body(response.aiter_stream(), response.aclose)
        return httpx.Response(response.status, headers=response.headers, stream=body, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


def open_client(allow_private: bool = False, timeout: float = 10.0, resolver: Resolver = resolve) -> httpx.AsyncClient:
    """A client over `CheckedTransport`; `timeout` in seconds for each step of a request."""
    return httpx.AsyncClient(
        transport=CheckedTransport(allow_private, resolver), timeout=timeout, follow_redirects=False, trust_env=False
    )
