"""The console's files and the headers around everything."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.api_city import City

CSP = (
    "default-src 'none'; script-src 'self'; worker-src 'self' blob:; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<title>songhua</title>")
    (static / "assets" / "index-B1a2_3dE.js").write_text("export {}")
    (static / "assets" / "songhua.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    (static / "link").symlink_to(tmp_path / "secret.txt")
    city = City(str(tmp_path / "songhua.db"), static=static)
    transport = httpx.ASGITransport(city.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://songhua.test") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/login", "/alarms/23010200000000000000000000000000", "/devices?family=x"])
async def test_any_page_address_gives_the_console(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert (answer.status_code, answer.text) == (200, "<title>songhua</title>")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/html")


async def test_hashed_files_are_kept_and_others_asked_for_again(browser: httpx.AsyncClient) -> None:
    hashed = await browser.get("/assets/index-B1a2_3dE.js")
    assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "javascript" in hashed.headers["content-type"]
    plain = await browser.get("/assets/songhua.svg")
    assert plain.headers["cache-control"] == "no-cache"
    again = await browser.get("/assets/songhua.svg", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    ["/assets/gone-B1a2_3dE.js", "/assets/", "/assets", "/v1", "/v1/", "/v1/nothing", "/v1/alarms/", "/healthz/"],
)
async def test_what_is_no_page_is_404_or_the_console(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    if path == "/healthz/":
        assert answer.text == "<title>songhua</title>"
    else:
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/link",
        "//secret.txt",
        "/%00",
        "/" + "a" * 5000,
    ],
)
async def test_nothing_outside_the_directory_is_served(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code in (200, 404)
    assert "secret" not in answer.text


async def test_only_reading_is_served(browser: httpx.AsyncClient) -> None:
    assert (await browser.head("/")).status_code == 200
    assert (await browser.post("/")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/assets/songhua.svg", "/v1/alarms", "/v1/nothing", "/healthz", "/metrics"])
async def test_every_response_carries_the_security_headers(browser: httpx.AsyncClient, path: str) -> None:
    headers = (await browser.get(path)).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    if path.startswith(("/v1", "/healthz", "/metrics")):
        assert headers["cache-control"] == "no-store"


async def test_without_a_built_console_the_api_still_serves(city: City, client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 404
    assert "not built" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
async def test_there_is_no_documentation_page_that_loads_from_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
