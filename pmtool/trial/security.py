"""Protection of the web pages: headers, limits of rate and size, form tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from starlette.datastructures import FormData, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PARTICIPANT = "participant"
"""Key of a session for the secret part of the participant's personal link."""
LARGEST_FORM = 4096
"""Size in bytes of the largest form that is accepted."""
_MOST_KEYS = 10_000


class SecureHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


@dataclass
class Bucket:
    """A token bucket for each key.

    Attributes
    ----------
    rate
        Requests per second that are allowed in the long run.
    burst
        Number of requests that are allowed at once.
    clock
        Returns the time in seconds.
    levels
        Level of the bucket and time of the last request, by key.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    levels: dict[Hashable, tuple[float, float]] = field(default_factory=dict)

    def allows(self, key: Hashable) -> bool:
        """Whether one more request is within the limit; if so, it is counted."""
        now = self.clock()
        level, before = self.levels.get(key, (self.burst, now))
        level = min(level + (now - before) * self.rate, self.burst)
        self.levels.pop(key, None)
        self.levels[key] = (level - 1 if level >= 1 else level, now)
        if len(self.levels) > _MOST_KEYS:
            del self.levels[next(iter(self.levels))]  # the least recent one
        return level >= 1


class RateLimit:
    """Refuses excess requests from a participant, or from an address without one.

    Attempts to log in as administrator, to enrol and to resume have limits of their own, by
    address. The scope must contain the session.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.login = Bucket(rate=0.1, burst=5)
        self.entry = Bucket(rate=2, burst=100)
        self.address = Bucket(rate=20, burst=500)
        self.participant = Bucket(rate=10, burst=60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._allows(scope):
            await self.app(scope, receive, send)
            return
        headers = {"Retry-After": "10"}
        response = PlainTextResponse("Too many requests; wait a little.", 429, headers)
        await response(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        address = (scope.get("client") or ("",))[0]
        posts, path = scope["method"] == "POST", scope["path"]
        if posts and path == "/admin":
            return self.login.allows(address)
        if (posts and path == "/") or path.startswith("/resume/"):
            return self.entry.allows(address)
        participant = scope["session"].get(PARTICIPANT)
        if participant is not None:
            return self.participant.allows(participant)
        return self.address.allows(address)


def form_token(request: Request) -> str:
    """The session's token against cross-site request forgery."""
    token: str = request.session.setdefault("form_token", secrets.token_urlsafe(16))
    return token


async def posted(request: Request) -> FormData:
    """Read a form and check that it was sent from a page of this application.

    Raises
    ------
    HTTPException
        Status 413 if the form is too large or of unknown length, 400 if it was not sent whole, 403
        unless the token is the session's.
    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_FORM:
        raise HTTPException(413, "This form is too large.")
    try:
        form = await request.form(max_files=0)
    except ClientDisconnect as error:
        raise HTTPException(400, "This form was not sent whole.") from error
    sent, expected = str(form.get("form_token", "")), request.session.get("form_token", "")
    if not expected or not secrets.compare_digest(sent.encode(errors="replace"), expected.encode()):
        raise HTTPException(403, "This page is out of date; reload it and try again.")
    return form
