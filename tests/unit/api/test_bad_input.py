"""Generated requests over everything OpenAPI describes: no 5xx, every refusal a problem document.

Parameters and bodies are drawn beside and inside what the specification allows; paths and names come from it.
"""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.app import describable_app
from api.openapi import describe
from tests.api_city import City
from tests.effort import examples

DOCUMENT = describe(describable_app())
# What never ends over this transport, and the probe that rightly says 503 while the clock runs on without ingest.
LEFT_OUT = ("/v1/stream", "/readyz")
OPERATIONS = sorted(
    (path, method) for path, operations in DOCUMENT["paths"].items() for method in operations if path not in LEFT_OUT
)
REQUESTS = examples(1_500, 5_000)
ALARM = "23010200000000000000000000000000"
SOUND = {
    "device": ["wm-230102-1", "lamp-230103-1"],
    "alarm": [ALARM],
    "action": ["action-1"],
    "partition": ["0"],
    "sequence": ["230102"],
    "element": ["0", "1"],
    "district": ["230102"],
    "family": ["water_meter", "streetlight"],
    "zone": ["dma-230102"],
    "gateway": ["gw-230102"],
    "subject": ["wm-230102-1"],
    "suppressed_by": [ALARM],
    "rule": ["wm.burst"],
    "q": ["wm", "设备"],
    "state": ["UNACK", "ACKED,RTNUN"],
    "active": ["true", "0"],
    "priority": ["critical", "low,high"],
    "outcome": ["quarantined", "conflict"],
    "reason": ["malformed"],
    "limit": ["1", "1000"],
    "cursor": ["WyJsYW1wIl0", "WzE3NjcyMjU2MDAwMDAsIjIzIl0", "WzEsMCwxLDBd"],
    "properties": ["flow_rate", "flow_rate,valve_state"],
    "start": ["0", "1767225500000", "2026-01-01T07:00:00+08:00"],
    "end": ["1767225600000", "2026-01-01T00:00:00Z"],
    "bucket": ["1h", "60000"],
    "function": ["mean", "count"],
}
NASTY = [
    "", " ", "\x00", "%", "%00", "\ud7ff", "😀", "'", '"', "';DROP TABLE alarms;--", "../../etc/passwd", "<script>",
    "null", "NaN", "-1", "1e999", str(2**63), str(-(2**63) - 1), "9" * 400, "x" * 5000, "２３０１０２", "٣", "{}", "[]",
    ",", ",,,", "a,b", "\r\nX: y",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z",
    "2026-W01-1T00:00:00Z", "253402300799999", "W10",
    "WzkyMjMzNzIwMzY4NTQ3NzU4MDgsIiJd", "WyJcdTAwMDAiXQ", "W1tbW1tbW10",
]  # fmt: skip
KINDS = ["acknowledge", "comment", "shelve", "assign", "verdict", "unshelve"]
ARGUMENTS = {
    "note": "seen",
    "assignee": "wang",
    "until": "2026-01-01T08:00:00Z",
    "reason": "works",
    "verdict": "fixed",
}
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
RAW = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"[" * 5000, b'"\\ud800"', b'{"code":"\\ud800"}', b"\xef\xbb\xbf{}", b"1e400", b"{}" * 9]),
)
CONTENT_TYPES = ["application/json; charset=utf-16", "text/plain", "", "application/x-www-form-urlencoded"]


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """A sound body, one with a value or a key of it replaced, or anything at all."""
    if path == "/v1/session":
        document: dict[str, Any] = {draw(st.sampled_from(["code", "token"])): "x" * 43}
    else:
        document = {"kind": draw(st.sampled_from(KINDS)), "seen_version": 1, "arguments": dict(ARGUMENTS)}
    change = draw(st.integers(0, 5))
    if change == 1:
        return draw(RAW)
    part = document["arguments"] if change > 3 and "arguments" in document else document
    if change > 1:
        part[draw(st.sampled_from(sorted(part)))] = draw(JSON)
    if change == 2:
        part[draw(TEXTS)] = draw(JSON)
    return json.dumps(document).encode()


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A method, a target with its query, and what else the request carries: sound but for one place in three."""
    path, method = draw(st.sampled_from(OPERATIONS))
    target, query = path, []
    for parameter in DOCUMENT["paths"][path][method].get("parameters", []):
        name = parameter["name"]
        values = TEXTS if draw(st.integers(0, 5)) == 0 else st.sampled_from(SOUND[name])
        if parameter["in"] == "path":
            target = target.replace(f"{{{name}}}", quote(draw(values), safe=draw(st.sampled_from(["", "/"]))))
        else:
            query += [f"{name}={quote(value)}" for value in draw(st.lists(values, max_size=2))]
    if draw(st.integers(0, 9)) == 0:
        query.append(quote(draw(TEXTS)))
    options: dict[str, Any] = {}
    if method in ("post", "delete"):
        odd = draw(st.integers(0, 9)) == 0
        content_type = draw(st.sampled_from(CONTENT_TYPES)) if odd else "application/json"
        options = {"content": draw(bodies(path)), "headers": {"Content-Type": content_type}}
    return method.upper(), target + ("?" + "&".join(query) if query else ""), options


def test_the_sound_values_cover_every_parameter() -> None:
    known = {
        parameter["name"]
        for path, method in OPERATIONS
        for parameter in DOCUMENT["paths"][path][method].get("parameters", [])
    }
    assert known == set(SOUND)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    directory: Path = tmp_path_factory.mktemp("bad_input")
    city = City(str(directory / "songhua.db"))
    city.request_action("action-1", ALARM)
    return city


def test_no_request_makes_the_server_fail(city: City) -> None:
    seen: Counter[int] = Counter()
    headers = city.bearer("admin")
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(city.app, client=("192.0.2.7", 40000)), base_url="http://songhua.test"
    )

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def check(request: tuple[str, str, dict[str, Any]]) -> None:
        method, target, options = request
        options = options | {"headers": headers | options.get("headers", {})}
        city.clock.now += 60_000  # failed logins are a minute apart: the throttle is not what is tested here
        try:
            built = client.build_request(method, target, **options)
        except httpx.InvalidURL:
            return
        answer = loop.run_until_complete(client.send(built))
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (request, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
        assert "content-security-policy" in answer.headers

    try:
        check()
    finally:
        loop.run_until_complete(client.aclose())
        loop.close()
    assert sum(seen.values()) >= REQUESTS * 0.9
    for status in (200, 202, 401, 404, 422):
        assert seen[status] >= REQUESTS / 250, seen
