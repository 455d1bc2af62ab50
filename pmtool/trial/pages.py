"""Responses with pages rendered from the templates."""

from __future__ import annotations

from typing import Any

from starlette.responses import HTMLResponse

from pmtool.system.templates import template


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a response with the page of a template."""
    return HTMLResponse(template("pmtool.trial", name).render(**values), status)
