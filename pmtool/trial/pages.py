"""Responses with pages rendered from the templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtool.system.templates import template

if TYPE_CHECKING:
    from starlette.responses import HTMLResponse


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a response with the page of a template."""
    from starlette.responses import HTMLResponse

    return HTMLResponse(template("pmtool.trial", name).render(**values), status)
