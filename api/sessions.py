"""Coming in and going out: a login code or a token becomes a session, named by a cookie that scripts cannot read."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from api import schemas
from api.credentials import Principal, end_session, open_session
from api.policy import COOKIE, PUBLIC, Viewer, client_address, refuse_when_throttled, require_same_origin
from api.problems import Problem
from api.replies import json_response
from api.requests import LoginRequest
from api.service import ServiceDep
from rules.documents import rfc3339

router = APIRouter(prefix="/v1/session", tags=["session"])


@router.post("", response_model=schemas.Session, dependencies=[Depends(PUBLIC)])
def log_in(body: LoginRequest, request: Request, service: ServiceDep) -> Response:
    """Exchange a one-time code (from the fragment of the login link) or a token for the session cookie."""
    require_same_origin(request, mandatory=False)
    address = client_address(request)
    refuse_when_throttled(service.login_throttle, address)
    now = service.clock()
    opened = open_session(service.engine, code=body.code, token=body.token, address=address, now=now)
    if opened is None:
        service.login_throttle.fail(address)
        what = "code is used, expired or unknown" if body.code else "token is unknown, expired or revoked"
        raise Problem(HTTPStatus.UNAUTHORIZED, f"the {what}", headers={"WWW-Authenticate": "Bearer"})
    secret, principal = opened
    response = json_response(_document(principal))
    response.set_cookie(
        COOKIE,
        secret,
        max_age=((principal.expires_at or now) - now) // 1000,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.get("", response_model=schemas.Session)
def get_session(principal: Viewer) -> Response:
    """Who is logged in."""
    return json_response(_document(principal))


@router.delete("", status_code=HTTPStatus.NO_CONTENT, response_class=Response)
def log_out(principal: Viewer, request: Request, service: ServiceDep) -> Response:
    """End the session; a bearer token is not touched."""
    if principal.kind == "session":
        end_session(service.engine, principal, address=client_address(request), now=service.clock())
        service.authenticator.forget(principal)
    response = Response(status_code=HTTPStatus.NO_CONTENT)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _document(principal: Principal) -> dict[str, Any]:
    return {
        "name": principal.name,
        "role": principal.role,
        "districts": None if principal.districts is None else sorted(principal.districts),
        "expires_at": rfc3339(principal.expires_at),
    }
