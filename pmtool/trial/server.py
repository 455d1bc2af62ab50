"""`pmtool trial serve`: the web application."""

from __future__ import annotations

import logging
import socket
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from pmtool.errors import UsageError
from pmtool.trial.administration import Administration
from pmtool.trial.database import Database
from pmtool.trial.folder import SECRETS, Secrets, Trial, load_secrets
from pmtool.trial.pages import page
from pmtool.trial.participation import Participation
from pmtool.trial.security import RateLimit, SecureHeaders

_log = logging.getLogger("pmtool")
LOOPBACK = ("127.0.0.1", "localhost")
WILDCARD = "0.0.0.0"
SESSION_SECONDS = 14 * 24 * 3600
_GRACE = 5
"""Seconds that open requests have to finish after the server was told to stop."""


def make_app(
    trial: Trial, database: Database, secrets: Secrets, names: Sequence[str], https: bool = False
) -> Starlette:
    """Create the web application.

    Parameters
    ----------
    trial
        The trial.
    database
        Database of participants and answers.
    secrets
        Secrets of the trial.
    names
        Names of the host; requests to other names are refused.
    https
        Whether browsers reach the application only by HTTPS, through a proxy.
    """
    parts = (
        Participation(trial, database, https),
        Administration(trial, database, secrets.administration),
    )
    return Starlette(
        routes=[
            *(route for part in parts for route in part.routes),
            Mount("/static", StaticFiles(packages=[("pmtool.trial", "static")])),
        ],
        middleware=[
            Middleware(SecureHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(names), www_redirect=False),
            Middleware(
                SessionMiddleware,
                secret_key=secrets.session_key,
                session_cookie="pmtool_trial",
                max_age=SESSION_SECONDS,
                https_only=https,
            ),
            Middleware(RateLimit),
        ],
        exception_handlers={HTTPException: _tell, sqlite3.Error: _tell_failure},
    )


def serve(
    folder: Path,
    host: str,
    port: int,
    names: Sequence[str],
    https: bool,
) -> None:
    """Serve a trial until the process is interrupted; where its pages are is logged.

    Parameters
    ----------
    folder
        Folder of the trial.
    host, port
        Address to listen on.
    names
        Further names of the host that browsers use.
    https
        Whether browsers reach the application only by HTTPS, through a proxy.

    Raises
    ------
    InputError
        If there is no trial, an image is missing, or the database cannot be used.
    UsageError
        If the address cannot be used.
    """
    if ":" in host:
        raise UsageError(f"{host} is an IPv6 address; give an IPv4 address such as {LOOPBACK[0]}")
    if any("*" in name for name in names):
        raise UsageError("a name has no *; give each name that browsers use by its own --name")
    if not names and _is_wildcard(host):
        raise UsageError(
            f"{host or 'an empty host'} is every address; give the name that browsers use by --name"
        )
    if https and not names:
        raise UsageError("by HTTPS, browsers use the name of a proxy; give it by --name")
    trial, secrets = Trial.load(folder), load_secrets(folder)
    trial.check_images()
    with closing(Database(trial.database)) as database, closing(_listen(host, port)) as listener:
        app = make_app(trial, database, secrets, [*LOOPBACK, host, *names], https)
        number = listener.getsockname()[1]
        reached = names[0] if _is_wildcard(host) else host
        place = f"https://{names[0]}" if https else f"http://{reached}:{number}"
        _log.info("participants: %s/", place)
        _log.info("administration: %s/admin, with the token in %s", place, folder / SECRETS)
        # No access log, because it would contain personal links.
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            lifespan="off",  # a second Ctrl-C would show how it ends
            timeout_graceful_shutdown=_GRACE,
        )
        server = uvicorn.Server(config)
        # Requests that it gives up after `_GRACE` are no errors.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        server.run(sockets=[listener])


def _is_wildcard(host: str) -> bool:
    """Whether a host, such as ``0``, stands for every address of the machine."""
    try:
        addresses = socket.getaddrinfo(host or WILDCARD, None, socket.AF_INET)
    except (OSError, UnicodeError):
        return False  # `_listen` reports it
    return any(place[0] == WILDCARD for *_, place in addresses)


def _listen(host: str, port: int) -> socket.socket:
    # Without IPPROTO_TCP, asyncio does not know that this is TCP and delays every response's end
    # by 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UsageError(
            f"{host}:{port} cannot be listened on ({error.strerror}); give another --host or --port"
        ) from error
    return listener


def _tell_failure(request: Request, error: Exception) -> Response:
    """Report that the database failed, as on a full disk; the page can be sent again."""
    _log.error("the trial's database failed: %s", error)
    detail = "This could not be stored. Please tell the organiser, and try again later."
    return _tell(request, HTTPException(503, detail))


def _tell(request: Request, error: Exception) -> Response:
    """Return an error, as a page if a page was asked for."""
    assert isinstance(error, HTTPException)
    if "text/html" in request.headers.get("accept", ""):
        return page("error", status=error.status_code, message=error.detail)
    return PlainTextResponse(error.detail, error.status_code)
