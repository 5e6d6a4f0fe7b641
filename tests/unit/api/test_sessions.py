"""Logging in and out over HTTP: the cookie, requests forged by other sites, too many failures, revocation."""

import httpx
import pytest
from sqlalchemy import func, select

from api.credentials import create_login_code, revoke_token
from api.tables import audit_trail
from tests.api_city import NOW, City

ALARM = "/v1/alarms/23010200000000000000000000000000/actions"
ACKNOWLEDGE = {"kind": "acknowledge", "seen_version": 1}


async def _log_in(city: City, client: httpx.AsyncClient, role: str = "operator") -> httpx.Response:
    return await client.post(
        "/v1/session", json={"code": create_login_code(city.engine, "li", role, now=city.clock.now)}
    )


async def test_a_code_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(
    city: City, client: httpx.AsyncClient
) -> None:
    answer = await _log_in(city, client)
    assert answer.status_code == 200
    document = answer.json()
    assert (document["name"], document["role"]) == ("li", "operator")
    assert document["expires_at"] == "2026-01-01T12:00:00.000Z"
    cookie = answer.headers["set-cookie"].lower()
    for attribute in ("httponly", "samesite=strict", "path=/"):
        assert attribute in cookie
    assert "secure" not in cookie
    assert (await client.get("/v1/session")).json() == document


async def test_the_cookie_is_secure_over_https(city: City) -> None:
    transport = httpx.ASGITransport(city.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://songhua.test") as client:
        answer = await _log_in(city, client)
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_a_code_works_once(city: City, client: httpx.AsyncClient) -> None:
    code = create_login_code(city.engine, "li", "viewer", now=NOW)
    assert (await client.post("/v1/session", json={"code": code})).status_code == 200
    assert (await client.post("/v1/session", json={"code": code})).status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"code": "a", "token": "b"}, {"code": ""}, {"code": 1}, [], {"code": "a", "x": 1}]
)
async def test_a_login_with_anything_but_one_secret_is_told_what_was_expected(
    client: httpx.AsyncClient, body: object
) -> None:
    answer = await client.post("/v1/session", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["in"] == "body"


async def test_logging_out_ends_the_session_at_once(city: City, client: httpx.AsyncClient) -> None:
    await _log_in(city, client)
    stolen = client.cookies["songhua_session"]
    gone = await client.delete("/v1/session", headers={"Origin": "http://songhua.test"})
    assert gone.status_code == 204
    assert "songhua_session" not in client.cookies
    again = await client.get("/v1/session", headers={"Cookie": f"songhua_session={stolen}"})
    assert again.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://songhua.test.evil.test"},
        {"Origin": "http://songhua.test:81"},
        {"Origin": "http://[", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://songhua.test", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_cannot_act_with_the_cookie(
    city: City, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _log_in(city, client)
    answer = await client.post(ALARM, json=ACKNOWLEDGE, headers=headers)
    assert answer.status_code == 403
    assert (await client.delete("/v1/session", headers=headers)).status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "http://songhua.test"}, {"Sec-Fetch-Site": "same-origin"}])
async def test_our_own_page_acts_with_the_cookie(
    city: City, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await _log_in(city, client)
    assert (await client.post(ALARM, json=ACKNOWLEDGE, headers=headers)).status_code == 202


async def test_a_trusted_origin_acts_with_the_cookie(city: City) -> None:
    app = city.create_app(trusted_origins=["https://ops.example"])
    headers = {"Origin": "https://ops.example", "Sec-Fetch-Site": "cross-site"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        await _log_in(city, client)
        assert (await client.post(ALARM, json=ACKNOWLEDGE, headers=headers)).status_code == 202


async def test_another_site_cannot_log_its_visitor_in(city: City, client: httpx.AsyncClient) -> None:
    code = create_login_code(city.engine, "evil", "viewer", now=NOW)
    answer = await client.post("/v1/session", json={"code": code}, headers={"Origin": "http://evil.test"})
    assert answer.status_code == 403


async def test_a_token_needs_no_origin(city: City, client: httpx.AsyncClient) -> None:
    assert (await client.post(ALARM, json=ACKNOWLEDGE, headers=city.bearer("operator"))).status_code == 202


async def test_too_many_failed_logins_wait_and_then_may_try_again(city: City, client: httpx.AsyncClient) -> None:
    for _ in range(10):
        assert (await client.post("/v1/session", json={"code": "wrong"})).status_code == 401
    refused = await _log_in(city, client)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    city.clock.now += 60_000
    assert (await _log_in(city, client)).status_code == 200
    with city.engine.connect() as connection:
        failures = connection.scalar(select(func.count()).where(audit_trail.c.outcome == "refused"))
    assert failures == 10


async def test_guessing_tokens_is_slowed_down_but_good_ones_still_work(city: City, client: httpx.AsyncClient) -> None:
    answers = [await client.get("/v1/status", headers={"Authorization": f"Bearer {n}"}) for n in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert (await client.get("/v1/status", headers=city.bearer())).status_code == 200
    assert (await _log_in(city, client)).status_code == 200  # a program with an old token keeps nobody from the login


async def test_a_console_whose_session_ended_is_always_sent_to_the_login(city: City, client: httpx.AsyncClient) -> None:
    ended = {"Cookie": "songhua_session=ended"}
    answers = {(await client.get("/v1/session", headers=ended)).status_code for _ in range(30)}
    assert answers == {401}
    assert (await _log_in(city, client)).status_code == 200


async def test_a_revoked_token_is_refused_within_five_seconds(city: City, client: httpx.AsyncClient) -> None:
    headers = city.bearer("viewer")
    assert (await client.get("/v1/status", headers=headers)).status_code == 200
    revoke_token(city.engine, "viewer-all")
    city.clock.now += 5_000
    assert (await client.get("/v1/status", headers=headers)).status_code == 401


async def test_a_credential_is_refused_from_the_moment_it_expires(city: City, client: httpx.AsyncClient) -> None:
    await _log_in(city, client)
    city.clock.now += 12 * 3_600_000 - 1
    assert (await client.get("/v1/session")).status_code == 200
    city.clock.now += 1
    assert (await client.get("/v1/session")).status_code == 401
