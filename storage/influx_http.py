"""The HTTP interface of InfluxDB 1.x: `/ping`, `/write`, `/query`, and what its answers mean for the caller.

Receives line protocol and InfluxQL, gives decoded series. Owns the connections to one server and one database. Raises
`TransientError` where the same call may succeed later, within 10 s whatever the server does; `Refused` where the server
will never take these lines; `TooLarge` where it would take fewer; `Denied` and `Missing` for what a person must change.
"""

import asyncio
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, NamedTuple, TypeAlias

import httpx
import msgspec

from devices.errors import SonghuaError, TransientError

_SECONDS = 10.0
_CONNECT_SECONDS = 3.0

# Refusals that a person can lift: the points are good.
_LIMITS = ("limit exceeded", "max-series-per-database", "max-values-per-tag")


class Address(NamedTuple):
    """Where the database is and as whom to use it; `user` is empty where the server asks for nobody."""

    host: str
    port: int
    database: str
    user: str = ""
    password: str = ""

    @property
    def base(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Refused(SonghuaError):
    """The server refused lines for good, in its own words; lines it did not object to are written."""


class TooLarge(SonghuaError):
    """The server takes no body of this size."""


class Denied(SonghuaError):
    """The credentials are wrong or not sufficient."""


class Missing(SonghuaError):
    """The database does not exist."""


# JSON has no integers here: InfluxDB prints a float without a fraction as 3.
Cell: TypeAlias = float | str | bool | None


class SeriesRows(msgspec.Struct, gc=False):
    """One series of an answer: rows of `values` under `columns`, the first of which is the time in ms."""

    name: str = ""
    tags: dict[str, str] = {}
    columns: list[str] = []
    values: list[list[Cell]] = []


class _Result(msgspec.Struct):
    series: list[SeriesRows] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


class InfluxHttp:
    """See the module docstring. Methods may run at the same time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: httpx.AsyncClient | None = None

    def start(self) -> None:
        """Make ready to connect; the first request does."""
        if self._client is not None:
            return
        address = self._address
        self._client = httpx.AsyncClient(
            base_url=address.base,
            auth=(address.user, address.password) if address.user else None,
            timeout=httpx.Timeout(_SECONDS, connect=_CONNECT_SECONDS),
            # A proxy of the environment has no business between the service and its database.
            trust_env=False,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ping(self, seconds: float) -> str:
        """The server's version; empty if whatever answers is not InfluxDB."""
        response = await self._send("GET", "/ping", seconds)
        return str(response.headers.get("x-influxdb-version", ""))

    async def write(self, body: bytes, precision: str) -> None:
        """Write lines; returns when the server has acknowledged them (with its default settings: after fsync)."""
        parameters = {"db": self._address.database, "precision": precision}
        response = await self._send("POST", "/write", _SECONDS, params=parameters, content=body)
        if response.status_code == httpx.codes.NO_CONTENT:
            return
        words = _words(response)
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise TooLarge(words)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise Missing(words)
        if response.status_code == httpx.codes.BAD_REQUEST and _blames_lines(words):
            raise Refused(words)
        raise self._failure(response, words)

    async def query(self, statement: str) -> list[SeriesRows]:
        """The series that answer an InfluxQL statement, times in ms."""
        form = {"q": statement, "db": self._address.database, "epoch": "ms"}
        response = await self._send("POST", "/query", _SECONDS, data=form)
        if response.status_code != httpx.codes.OK:
            raise self._failure(response, _words(response))
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except msgspec.MsgspecError as error:
            raise TransientError(f"InfluxDB at {self._address.base}: not an answer: {error}") from error
        words = answer.error or next((result.error for result in answer.results if result.error), "")
        if words.startswith("database not found"):
            raise Missing(words)
        if words:
            raise TransientError(f"InfluxDB at {self._address.base}: {words}")
        return [series for result in answer.results for series in result.series]

    async def _send(self, method: str, path: str, seconds: float, **request: Any) -> httpx.Response:
        if self._client is None:
            raise TransientError(f"InfluxDB at {self._address.base}: the store is not started")
        try:
            async with asyncio.timeout(seconds):
                return await self._client.request(method, path, **request)
        except TimeoutError:
            raise TransientError(f"InfluxDB at {self._address.base}: no answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise TransientError(f"InfluxDB at {self._address.base}: {words}") from error

    def _failure(self, response: httpx.Response, words: str) -> SonghuaError:
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return Denied(f"InfluxDB at {self._address.base}: {words}")
        text = f"InfluxDB at {self._address.base}: {response.status_code} {words}"
        return TransientError(text, _retry_after(response.headers.get("retry-after", "")))


def number(cell: Cell) -> float:
    """A cell of a column that holds numbers only."""
    if not isinstance(cell, float):
        raise TransientError(f"InfluxDB answered {cell!r} where a number was expected")
    return cell


def _words(response: httpx.Response) -> str:
    try:
        words = msgspec.json.decode(response.content, type=_Answer).error
    except msgspec.MsgspecError:
        words = response.text
    return (words or response.reason_phrase)[:2000]


def _blames_lines(words: str) -> bool:
    """Whether a 400 is about the lines themselves: a proxy's or a configuration's 400 must not condemn good points."""
    about_lines = words.startswith(("partial write", "unable to parse")) or "field type conflict" in words
    return about_lines and not any(limit in words for limit in _LIMITS)


def _retry_after(header: str) -> float | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return None
