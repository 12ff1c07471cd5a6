"""The documentation page. Everything it loads comes from this service, so it works without a
network.
"""

from importlib import resources

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

router = APIRouter(include_in_schema=False)

FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/")
async def root(request: Request) -> Response:
    """Leads to the documentation."""
    return RedirectResponse("docs")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Swagger UI over `/openapi.json`."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="vqtok",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
    )


def _file_route(name: str, media_type: str) -> None:
    async def file(request: Request) -> Response:
        content = (resources.files("fastapi_swagger") / "resources" / name).read_bytes()
        return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=86400"})

    router.add_api_route(f"/docs/{name}", file)


for _name, _media_type in FILES.items():
    _file_route(_name, _media_type)
