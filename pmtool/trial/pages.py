"""Pages made of the templates."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.responses import HTMLResponse


@cache
def environment() -> Environment:
    """Environment for ``templates/``; everything is escaped, and undefined names are errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("pmtool.trial", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined)


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A response with a template's page."""
    from starlette.responses import HTMLResponse

    template = environment().get_template(f"{name}.html.j2")
    return HTMLResponse(template.render(**values), status)
