"""Every route states who may call it, and the roles are held to it."""

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from api.app import describable_app
from api.credentials import Role
from api.policy import policies
from tests.api_city import City

ROUTES = sorted(policies(describable_app()).items(), key=lambda item: item[0])
OPEN = {("/healthz", "GET"), ("/readyz", "GET"), ("/v1/session", "POST")}
EXAMPLES = {
    "{alarm}": "23010200000000000000000000000000",
    "{device}": "wm-230102-1",
    "{action}": "0" * 32,
    "{partition}": "0",
    "{sequence}": "230102",
    "{element}": "0",
}


def _path(template: str) -> str:
    for name, value in EXAMPLES.items():
        template = template.replace(name, value)
    return template


def test_a_route_without_a_policy_is_found() -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", lambda: None)
    for add in (FastAPI.include_router, lambda app, _: app.add_api_route("/v1/forgotten", lambda: None)):
        app = describable_app()
        add(app, router)
        with pytest.raises(LookupError, match="/v1/forgotten"):
            policies(app)


def test_only_probes_and_the_login_are_open_to_everybody() -> None:
    assert {key for key, policy in ROUTES if policy.role is None} == OPEN


def test_whatever_changes_an_alarm_or_shows_payloads_needs_an_operator() -> None:
    needs_more = {key[0] for key, policy in ROUTES if policy.role not in (None, Role.viewer)}
    assert needs_more == {
        "/v1/alarms/{alarm}/actions",
        "/v1/quarantine",
        "/v1/quarantine/{partition}/{sequence}/{element}",
    }


@pytest.mark.parametrize(("path", "method"), [key for key, policy in ROUTES if policy.role is not None])
async def test_nobody_comes_in_without_a_good_credential(
    city: City, client: httpx.AsyncClient, path: str, method: str
) -> None:
    viewer = city.token()
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {viewer}"},
        {"Cookie": f"songhua_session={viewer}"},
        {"Authorization": f"Bearer {viewer}x"},
    ):
        answer = await client.request(method, _path(path), headers=headers, json={})
        assert answer.status_code == 401, headers
        assert answer.headers["content-type"] == "application/problem+json"


# The stream never ends over this transport: the integration tests open it.
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("path", "method"), [key for key, policy in ROUTES if policy.role is not None and key[0] != "/v1/stream"]
)
async def test_a_role_may_do_what_the_policy_says_and_no_more(
    city: City, client: httpx.AsyncClient, path: str, method: str, role: Role
) -> None:
    needed = dict(ROUTES)[path, method].role
    assert needed is not None
    body = {"kind": "acknowledge", "seen_version": 1}
    answer = await client.request(method, _path(path), headers=city.bearer(role), json=body)
    assert (answer.status_code == 403) == (not role.includes(needed))
    assert answer.status_code < 500
