"""The participant's pages: consent, twelve items, and the personal link for resuming."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, get_args

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pmtool.trial.database import Database, OutOfTurnError, Participant
from pmtool.trial.design import ITEMS, Side
from pmtool.trial.folder import Trial
from pmtool.trial.pages import page
from pmtool.trial.security import PARTICIPANT, form_token, posted

SPECIALITIES = (
    "Radiology",
    "Radiation oncology",
    "Nuclear medicine",
    "Other medicine",
    "Radiography",
    "Medical physics",
    "Computer science",
    "Student",
    "Other",
)
MOST_YEARS = 70
_HOUR = 3_600_000  # milliseconds; the page caps longer times, which are pauses, at this


class Participation:
    """Serves a trial to its participants.

    The session holds the secret of the personal link, not the participant's number, from which
    the plan could be computed. The pages reveal only what participants are to see: an
    item's three images are one response of uncompressed voxels, in the order reference, left,
    right, so that no name, size or time gives a candidate away.
    """

    def __init__(self, trial: Trial, database: Database, https: bool) -> None:
        self.trial, self.database, self.https = trial, database, https
        self.routes = [
            Route("/", self.consent_form, methods=["GET"]),
            Route("/", self.consent, methods=["POST"]),
            Route("/resume/{link}", self.resume),
            Route("/leave", self.leave, methods=["POST"]),
            Route("/trial", self.items),
            Route("/trial/state", self.state),
            Route("/trial/items/{item:int}", self.images),
            Route("/trial/answers", self.answer, methods=["POST"]),
            Route("/trial/undo", self.undo, methods=["POST"]),
        ]

    def consent_form(self, request: Request) -> Response:
        """Show the first page; redirect a participant who has given consent to the items."""
        if self._known(request) is not None:
            return RedirectResponse("/trial", 303)
        return self._consent_page(request)

    async def consent(self, request: Request) -> Response:
        """Enrol a new participant who has given consent."""
        form = await posted(request)
        speciality, years = str(form.get("speciality", "")), _number(form, "years", MOST_YEARS)
        if form.get("consent") != "yes" or speciality not in SPECIALITIES or years is None:
            return self._consent_page(request, incomplete=True)
        participant = await run_in_threadpool(self.database.enrol, speciality, years)
        _enter(request, participant)
        return RedirectResponse("/trial", 303)

    def resume(self, request: Request) -> Response:
        """Let a participant continue with the personal link."""
        participant = self.database.by_link(request.path_params["link"])
        if participant is None:
            raise HTTPException(
                404, "This personal link belongs to nobody; look for a typing slip."
            )
        _enter(request, participant)
        return RedirectResponse("/trial", 303)

    async def leave(self, request: Request) -> Response:
        """End the session, so that another participant can use this browser."""
        await posted(request)
        request.session.clear()
        return RedirectResponse("/", 303)

    def items(self, request: Request) -> Response:
        """Show the page with the slices."""
        participant = self._known(request)
        if participant is None:
            return RedirectResponse("/", 303)
        link = request.url_for("resume", link=participant.link)
        if self.https:  # a proxy need not pass on the scheme
            link = link.replace(scheme="https")
        return page("trial", form_token=form_token(request), link=link, total=ITEMS)

    def state(self, request: Request) -> Response:
        """Send the number of answered items and the number of all items."""
        answered = self.database.answered(self._participant(request))
        return JSONResponse({"answered": answered, "total": ITEMS})

    def images(self, request: Request) -> Response:
        """Send an item's three images as little-endian int16.

        Answered items, the next unanswered one and the one after it can be loaded.
        """
        participant, number = self._participant(request), request.path_params["item"]
        if number > min(self.database.answered(participant) + 1, ITEMS - 1):
            raise HTTPException(404, "It is not the turn of this item.")
        images = self.trial.images(self.trial.plan(participant)[number])
        _, rows, columns = images.shape
        headers = {"X-Rows": str(rows), "X-Columns": str(columns)}
        content = images.astype("<i2").tobytes()
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def answer(self, request: Request) -> Response:
        """Store an answer, which is on disk before it is acknowledged."""
        form, participant = await posted(request), await self._sender(request)
        item, side = _number(form, "item", ITEMS - 1), form.get("side")
        milliseconds = _number(form, "milliseconds", _HOUR)
        if item is None or side not in get_args(Side) or milliseconds is None:
            raise HTTPException(400, "This is not an answer.")
        arguments = (participant, item, cast(Side, side), milliseconds)
        return await _in_turn(self.database.answer, *arguments)

    async def undo(self, request: Request) -> Response:
        """Take the last answer back."""
        form, participant = await posted(request), await self._sender(request)
        item = _number(form, "item", ITEMS - 1)
        if item is None:
            raise HTTPException(400, "This is not an item.")
        return await _in_turn(self.database.undo, participant, item)

    def _known(self, request: Request) -> Participant | None:
        link = request.session.get(PARTICIPANT)
        return None if link is None else self.database.by_link(link)

    def _participant(self, request: Request) -> int:
        """Number of the session's participant; raises `HTTPException` if it has none."""
        participant = self._known(request)
        if participant is None:
            raise HTTPException(401, "Open your personal link, or begin at the first page.")
        return participant.id

    async def _sender(self, request: Request) -> int:
        """`_participant` in a thread, because the database may have to wait for its disk."""
        return await run_in_threadpool(self._participant, request)

    def _consent_page(self, request: Request, incomplete: bool = False) -> Response:
        return page(
            "consent",
            status=400 if incomplete else 200,
            form_token=form_token(request),
            incomplete=incomplete,
            specialities=SPECIALITIES,
            most_years=MOST_YEARS,
            total=ITEMS,
        )


def _enter(request: Request, participant: Participant) -> None:
    """Start a new session for a participant."""
    request.session.clear()
    request.session[PARTICIPANT] = participant.link


def _number(form: FormData, name: str, most: int) -> int | None:
    """Read a whole number from 0 to ``most`` from a form; None if it is missing or invalid."""
    text = str(form.get(name, ""))
    short = text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if short and int(text) <= most else None


async def _in_turn(change: Callable[..., None], *arguments: object) -> Response:
    """Change the database; status 409 if another page of the participant has done so."""
    try:
        await run_in_threadpool(change, *arguments)
    except OutOfTurnError as error:
        raise HTTPException(409, "Another page has answered this item.") from error
    return Response(status_code=204)
