"""Who may call what: every route depends on exactly one `Policy`; a route without one fails a test.

A `Policy` finds the `Principal` behind the request (bearer token or session cookie), checks its role, and for a
cookie on an unsafe method that the page asking is ours (CSRF). What a principal may *see* is its districts: `within`
is the condition that every query on a table with districts carries. Refusals are `Problem`s: 401 unknown, 403 not
allowed, 429 too many failures.
"""

import ipaddress
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import Column, ColumnElement, true

from api.credentials import Principal, Role
from api.problems import Problem
from api.service import service_of
from api.throttle import FailureThrottle

COOKIE = "songhua_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Policy:
    """A FastAPI dependency. `role` None opens the route to everybody.

    `loopback` also lets this machine's own scraper in; `whole_city` refuses credentials that see only some districts.
    """

    def __init__(self, role: Role | None, *, loopback: bool = False, whole_city: bool = False) -> None:
        self.role = role
        self._loopback = loopback
        self._whole_city = whole_city

    async def __call__(self, request: Request) -> Principal | None:
        """The principal, None on public routes; raises `Problem`."""
        if self.role is None or (self._loopback and from_loopback(request)):
            return None
        principal = await self._authenticate(request)
        if principal.kind == "session" and request.method not in _SAFE_METHODS:
            require_same_origin(request, mandatory=True)
        if not principal.role.includes(self.role):
            raise Problem(HTTPStatus.FORBIDDEN, f"expected the role {self.role}, this is {principal.role}")
        if self._whole_city and principal.districts is not None:
            raise Problem(HTTPStatus.FORBIDDEN, "this concerns the whole city, the credential only some districts")
        return principal

    async def _authenticate(self, request: Request) -> Principal:
        service = service_of(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(COOKIE)
        principal = None
        if scheme.lower() == "bearer":
            principal = await service.authenticator.find(token.strip(), "token")
            if principal is None:
                refuse_when_throttled(service.token_throttle, client_address(request))
                service.token_throttle.fail(client_address(request))
        elif cookie:
            # Not counted: a console whose session has ended asks several times before it shows the login.
            principal = await service.authenticator.find(cookie, "session")
        if principal is not None:
            return principal
        detail = "unknown, expired or revoked credential" if scheme or cookie else "log in or send a bearer token"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


PUBLIC = Policy(None)
VIEWER = Policy(Role.viewer)
OPERATOR = Policy(Role.operator)
SCRAPER = Policy(Role.viewer, loopback=True, whole_city=True)

Viewer = Annotated[Principal, Depends(VIEWER)]
Operator = Annotated[Principal, Depends(OPERATOR)]


def within(principal: Principal, column: Column[Any]) -> ColumnElement[bool]:
    """The condition that `column` holds a district the principal may see."""
    return true() if principal.districts is None else column.in_(sorted(principal.districts))


def client_address(request: Request) -> str:
    """The peer's address; behind a proxy the server in front has already replaced it where it trusts the proxy."""
    return request.client.host if request.client else ""


def refuse_when_throttled(throttle: FailureThrottle, address: str) -> None:
    """429 with Retry-After where this address failed too often."""
    if seconds := throttle.wait(address):
        headers = {"Retry-After": str(seconds)}
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, f"too many failed attempts; wait {seconds} s", headers=headers)


def require_same_origin(request: Request, *, mandatory: bool) -> None:
    """403 unless the page that asks is ours (Fetch metadata, else Origin).

    Programs send neither header: `mandatory` decides about them.
    """
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is not None and origin in service_of(request).trusted_origins:
        return
    if site is not None:
        same = site == "same-origin"
    elif origin is not None:
        same = _host_of(origin) == request.headers.get("host")
    else:
        same = not mandatory
    if not same:
        raise Problem(HTTPStatus.FORBIDDEN, "expected a request from the console's own origin")


def _host_of(origin: str) -> str | None:
    """Host and port of an Origin header, None where it has none (`null`) or is malformed."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def from_loopback(request: Request) -> bool:
    """Whether a program on this machine asks directly: not through a proxy, nor a browser led by a foreign name."""
    forwarded = "forwarded" in request.headers or "x-forwarded-for" in request.headers
    host = _host_of(f"//{request.headers.get('host', '')}")
    try:
        local = ipaddress.ip_address(client_address(request)).is_loopback
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return local and not forwarded and name in ("localhost", "127.0.0.1", "::1")


def policies(app: FastAPI) -> dict[tuple[str, str], Policy]:
    """The policy of every (path, method) of `app`; raises `LookupError` for a route without exactly one."""
    found: dict[tuple[str, str], Policy] = {}
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        dependencies = route.dependant.dependencies if isinstance(route, APIRoute) else []
        guards = [item.call for item in dependencies if isinstance(item.call, Policy)]
        if len(guards) != 1:
            raise LookupError(f"{context.path}: expected one policy, found {len(guards)}")
        found |= {(str(context.path), method): guards[0] for method in sorted(context.methods or ())}
    return found
