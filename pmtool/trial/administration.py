"""The administrator's page: progress and results, behind a token."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pmtool.trial.database import Database
from pmtool.trial.design import ITEMS
from pmtool.trial.folder import Trial
from pmtool.trial.pages import page
from pmtool.trial.report import COLUMNS, report_of
from pmtool.trial.security import form_token, posted


class Administration:
    """Serves progress and results to anyone who has the token."""

    def __init__(self, trial: Trial, database: Database, token: str) -> None:
        self.trial, self.database, self.token = trial, database, token
        self.routes = [
            Route("/admin", self.show, methods=["GET"]),
            Route("/admin", self.log_in, methods=["POST"]),
            Route("/admin/leave", self.log_out, methods=["POST"]),
        ]

    def show(self, request: Request) -> Response:
        """Show progress and results, or the form that asks for the token."""
        if not request.session.get("administrator"):
            return page("login", form_token=form_token(request), wrong=False)
        report = report_of(self.trial, self.database)
        counts = report.results.by_participant
        progress = [
            (str(x.id), x.speciality, f"{counts[x.id].answers if x.id in counts else 0} of {ITEMS}")
            for x in self.database.participants()
        ]
        return page(
            "admin",
            form_token=form_token(request),
            report=report,
            columns=COLUMNS,
            progress=progress,
        )

    async def log_in(self, request: Request) -> Response:
        """Log in if the token is right; else show the form again."""
        form = await posted(request)
        if not secrets.compare_digest(str(form.get("token", "")).encode(), self.token.encode()):
            return page("login", status=403, form_token=form_token(request), wrong=True)
        request.session.clear()
        request.session["administrator"] = True
        return RedirectResponse("/admin", 303)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        await posted(request)
        request.session.clear()
        return RedirectResponse("/admin", 303)
