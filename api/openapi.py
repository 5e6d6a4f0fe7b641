"""The API's description (OpenAPI 3.1): stable operation ids and order, every refusal a problem document, roles stated.

`python -m api.openapi` prints it; the console's typed client is generated from that. `x-role` is the least role a
route asks for, null where it asks for nobody.
"""

import json
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from api.policy import COOKIE, Viewer, policies
from api.problems import MEDIA_TYPE
from api.schemas import ProblemDocument

VERSION = "1.0.0"
router = APIRouter(tags=["description"])


@router.get("/openapi.json", response_class=Response)
def get_description(_: Viewer, request: Request) -> Response:
    """This description."""
    return Response(json.dumps(request.app.openapi(), ensure_ascii=False), media_type="application/json")


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of `app`, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _describe(app)
    return app.openapi_schema


def export() -> str:
    """The description as text with sorted keys, for a file under version control."""
    from api.app import describable_app

    return json.dumps(describe(describable_app()), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="songhua",
        version=VERSION,
        description="A city's sensing network. Refusals are RFC 9457 problem documents.",
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["ProblemDocument"] = problem
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    refusal = {
        "description": "Refused: see the problem document.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for (path, method), policy in policies(app).items():
        operation = document["paths"][path][method.lower()]
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = refusal
        operation["x-role"] = policy.role
        operation["security"] = [] if policy.role is None else [{"session": []}, {"token": []}]
    return document


if __name__ == "__main__":
    print(export(), end="")
