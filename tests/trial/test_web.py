"""The human trial's web application: the real server, and participants by HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sqlite3
import subprocess
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pmtool.cli.console import run_command
from pmtool.main import cli
from pmtool.trial.database import Database
from pmtool.trial.design import ITEMS
from pmtool.trial.folder import Trial, load_secrets
from pmtool.trial.participation import Participation
from pmtool.trial.security import Bucket, posted
from pmtool.trial.server import make_app

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

Serve = Callable[[Path], tuple[str, subprocess.Popen[str]]]
Visit = Callable[[str], Any]
METHODS = ("pixelminer", "linear", "nearest", "bspline", "windowed_sinc")


@pytest.fixture
def address(trial_folder: Path, serve_trial: Serve) -> str:
    return serve_trial(trial_folder)[0]


@pytest.fixture
def person(address: str, visit: Visit) -> Any:
    """Who has given consent."""
    found = visit(address)
    assert found.consent().status_code == 303
    return found


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6_is_refused(
    trial_folder: Path, host: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Starlette takes no name of a host in brackets."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it is served"))
    arguments = ("trial", "serve", str(trial_folder), "--port", "0", "--name", "a", "--host", host)
    assert run_command(cli, list(arguments)) == 2
    assert f"{host} is an IPv6 address; give an IPv4 address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0"), "0 is every address; give the name"),
        (("--host", ""), "an empty host is every address"),
        (("--name", "*"), "a name has no *"),
        (("--https",), "give it by --name"),
        (("--host", "a..b"), "a..b:0 cannot be listened on"),
    ],
)
def test_addresses_that_are_refused(
    arguments: tuple[str, ...],
    message: str,
    trial_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it is served"))
    assert run_command(cli, ["trial", "serve", str(trial_folder), "--port", "0", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "lab.example"), ("", "lab.example")]
)
def test_the_address_that_is_told_can_be_reached(
    trial_folder: Path,
    host: str,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the name, if the server listens on every address, which is none to go to."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    options = ("--port=0", "--name=lab.example", f"--host={host}")
    assert run_command(cli, ["trial", "serve", str(trial_folder), *options]) == 0
    assert capsys.readouterr().err.startswith(f"participants: http://{shown}:")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_image_that_was_not_copied(
    damage: Callable[[Path], object],
    trial_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told before the first participant comes."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it is served"))
    trial = Trial.load(trial_folder)
    damage(trial.image_path(trial.plans[-1][-1].slice, "reference"))
    assert run_command(cli, ["trial", "serve", str(trial_folder), "--port", "0"]) == 3
    assert "is missing or damaged; copy the folder again" in capsys.readouterr().err


def test_a_second_interrupt_shows_no_traceback(
    trial_folder: Path, serve_trial: Serve, visit: Visit
) -> None:
    address, server = serve_trial(trial_folder)
    assert visit(address).get("/").status_code == 200
    for _ in range(2):
        server.send_signal(signal.SIGINT)
        time.sleep(0.02)  # else the two could be one
    told = server.communicate(timeout=30)[1]
    assert told.endswith("\npmtool: interrupted\n")
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_though_a_form_is_not_sent_whole(
    trial_folder: Path, serve_trial: Serve, number: int
) -> None:
    address, server = serve_trial(trial_folder)
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port))) as connection:
        length = "Content-Length: 100\r\nContent-Type: application/x-www-form-urlencoded"
        connection.sendall(f"POST / HTTP/1.1\r\nHost: {host}\r\n{length}\r\n\r\nabc".encode())
        time.sleep(0.5)
        server.send_signal(number)
        told = server.communicate(timeout=30)[1]
    assert [line for line in told.splitlines()[1:] if line] == ["pmtool: interrupted"]


def asked(app: Any, path: str) -> Any:
    """An application's answer, without a server."""
    import httpx

    async def ask() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://trial") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(("https", "scheme"), [(True, "https"), (False, "http")])
def test_the_personal_link_has_the_browsers_scheme(
    trial_folder: Path, https: bool, scheme: str
) -> None:
    """A proxy passes on the name of the host, but perhaps not the scheme."""
    trial = Trial.load(trial_folder)
    with closing(Database(trial.database)) as database:
        app = make_app(trial, database, load_secrets(trial_folder), ["trial"], https)
        link = database.enrol("Radiology", 1).link
        page = Participation(trial, database, https)
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/trial",
            "headers": [(b"host", b"trial")],
            "scheme": "http",
            "server": ("trial", 80),
            "session": {"participant": link},
            "router": app.router,
            "app": app,
        }
        shown = bytes(page.items(Request(scope)).body).decode()
    assert f'value="{scheme}://trial/resume/{link}"' in shown


def test_a_full_disk(trial_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the server goes on."""
    trial = Trial.load(trial_folder)
    with closing(Database(trial.database)) as database:
        app = make_app(trial, database, load_secrets(trial_folder), ["trial"])

        def status() -> int:
            return int(asked(app, "/resume/abc").status_code)

        pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
        database._connection.execute(f"PRAGMA max_page_count = {pages}")
        filling = (database.enrol("radiologist", number) for number in range(10_000))
        with pytest.raises(sqlite3.OperationalError, match="is full"):
            list(filling)
        monkeypatch.setattr(Database, "by_link", lambda *_: database.enrol("radiologist", 1))
        assert status() == 503
        database._connection.execute("PRAGMA max_page_count = 100000")
        assert status() == 303


class TestItems:
    def test_images_are_the_plans(self, person: Any, trial_folder: Path) -> None:
        trial = Trial.load(trial_folder)
        for number, item in enumerate(trial.plan(1)):
            answer = person.get(f"/trial/items/{number}")
            shape = (3, int(answer.headers["x-rows"]), int(answer.headers["x-columns"]))
            images = np.frombuffer(answer.content, "<i2").reshape(shape)
            mined, other = (
                np.load(trial.image_path(item.slice, name)) for name in ("pixelminer", item.other)
            )
            assert np.array_equal(images[0], np.load(trial.image_path(item.slice, "reference")))
            assert np.array_equal(images[1 if item.side == "left" else 2], mined)
            assert np.array_equal(images[2 if item.side == "left" else 1], other)
            assert person.answer(number, "left") == 204
        assert person.answered() == ITEMS
        assert person.answer(ITEMS, "left") == 400

    def test_nothing_tells_the_method(self, person: Any) -> None:
        """Responses for all items are alike but for their voxels, and no page names a method."""
        heads = set()
        for number in range(ITEMS):
            answer = person.get(f"/trial/items/{number}")
            head = dict(answer.headers)
            head.pop("date")
            heads.add((len(answer.content), str(sorted(head.items()))))
            assert not {"etag", "last-modified", "content-encoding"} & set(head)
            person.answer(number, "right")
        assert len(heads) == 1
        pages = ("/", "/trial", "/trial/state", "/static/trial.js", "/static/viewer.js")
        for text in (person.client.get(page, follow_redirects=True).text for page in pages):
            assert not [name for name in METHODS if name in text.lower()]

    def test_turns(self, person: Any) -> None:
        assert person.get("/trial/items/1").status_code == 200
        assert person.get("/trial/items/2").status_code == 404
        assert person.undo(0) == 409
        assert person.answer(1, "left") == 409
        assert person.answer(0, "left") == 204
        assert person.answer(0, "right") == 409
        assert person.answer(1, "middle") == 400
        assert person.answer(1, "left", milliseconds=-1) == 400
        assert person.answer(1, "left", milliseconds="1e3") == 400
        assert person.answer(1, "right") == 204
        assert person.undo(0) == 409
        assert person.undo(1) == 204
        assert person.undo(1) == 409
        assert person.answered() == 1

    def test_leaving_and_the_personal_link(self, person: Any, address: str, visit: Visit) -> None:
        assert person.answer(0, "left") == 204
        link = person.link()
        assert person.post("/leave").status_code == 303
        assert person.get("/trial/state").status_code == 401
        other = visit(address)
        other.open(link)
        assert other.answered() == 1
        assert other.get("/resume/AAAAAAAAAAAAAAAAAAAAAA").status_code == 404


class TestConsent:
    @pytest.mark.parametrize(
        "changes", [{"consent": ""}, {"speciality": "Magic"}, {"years": -1}, {"years": "ten"}]
    )
    def test_incomplete(self, address: str, visit: Visit, changes: dict[str, object]) -> None:
        person = visit(address)
        assert person.consent(**changes).status_code == 400
        assert person.get("/trial").headers["location"] == "/"
        assert person.get("/trial/items/0").status_code == 401


class TestSecurity:
    def test_a_form_needs_the_sessions_token(self, person: Any, address: str, visit: Visit) -> None:
        other = visit(address)
        other.consent()
        person.token, kept = other.token, person.token
        assert person.answer(0, "left") == 403
        assert person.post("/leave", form_token="").status_code == 403
        person.token = kept
        assert person.answer(0, "left") == 204
        assert other.answered() == 0

    def test_the_cookie_does_not_tell_the_participants_number(self, person: Any) -> None:
        """The plan could be computed from it."""
        (cookie,) = person.client.cookies.jar
        session = json.loads(b64decode(cookie.value.strip('"').partition(".")[0] + "=="))
        assert person.link().endswith("/" + session["participant"])

    def test_cookies_cannot_be_forged_or_read_by_scripts(self, person: Any) -> None:
        (cookie,) = person.client.cookies.jar
        assert cookie.has_nonstandard_attr("httponly")
        assert cookie.get_nonstandard_attr("samesite") == "lax"
        forged = "eyJwYXJ0aWNpcGFudCI6IDJ9" + cookie.value[cookie.value.index(".") :]
        person.client.cookies.clear()
        answer = person.client.get("/trial/state", headers={"cookie": f"{cookie.name}={forged}"})
        assert answer.status_code == 401

    def test_headers(self, person: Any) -> None:
        for path in ("/", "/trial", "/trial/items/0", "/static/trial.css", "/none", "/admin"):
            headers = person.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "server" not in headers

    def test_pages_need_nothing_from_elsewhere(self, person: Any) -> None:
        own = str(person.client.base_url)
        for path in ("/trial", "/admin", "/static/trial.css", "/static/trial.js"):
            text = person.get(path).text.replace(own, "")
            assert "http:" not in text
            assert "https:" not in text
            assert not re.search(r"<script(?! type=.module. src=./static)|style=|onclick", text)

    def test_what_is_not_served(self, person: Any, address: str) -> None:
        paths = (
            "/trial.json",
            "/answers.sqlite",
            "/static/../folder.py",
            "/static/%2e%2e/report.py",
        )
        assert [person.get(path).status_code for path in paths] == [404] * 4
        bad = person.client.get("/", headers={"host": "evil.example"})
        assert bad.status_code == 400

    def test_large_forms(self, person: Any) -> None:
        assert person.answer(0, "left", padding="x" * 5000) == 413
        chunked = person.client.post("/trial/answers", content=iter([b"item=0"]))
        assert chunked.status_code == 413

    @pytest.mark.parametrize("length", ["9" * 5000, "4097", "-1", ""])
    def test_lengths_that_cannot_be(self, length: str) -> None:
        headers = [(b"content-length", length.encode())]
        request = Request({"type": "http", "method": "POST", "headers": headers})
        with pytest.raises(HTTPException) as refused:
            asyncio.run(posted(request))
        assert refused.value.status_code == 413

    def test_administration(
        self, person: Any, trial_folder: Path, address: str, visit: Visit
    ) -> None:
        for item in range(4):
            person.answer(item, "left")
        head = visit(address)
        assert "Results" not in head.open("/admin").text
        assert head.post("/admin", token="guess").status_code == 403
        token = load_secrets(trial_folder).administration
        head.open("/admin")
        assert head.post("/admin", token=token).status_code == 303
        page = head.open("/admin").text
        assert "4 answers" in page
        assert "4 of 12" in page
        assert "Results" not in person.get("/admin").text
        head.post("/admin/leave")
        assert "Results" not in head.get("/admin").text

    def test_guessing_is_slow(self, address: str, visit: Visit) -> None:
        head = visit(address)
        head.open("/admin")
        codes = Counter(head.post("/admin", token=str(x)).status_code for x in range(8))
        assert codes == {403: 5, 429: 3}

    def test_rate_limit(self, person: Any) -> None:
        codes = Counter(person.get("/trial/state").status_code for _ in range(200))
        assert codes[429] > 20
        assert codes[200] >= 50


def test_a_limit_forgets_whoever_asked_longest_ago() -> None:
    bucket = Bucket(rate=0.5, burst=1, clock=lambda: 0.0)
    assert all(bucket.allows(key) for key in range(11_000))
    assert len(bucket.levels) == 10_000
    assert not bucket.allows(10_999)
    assert bucket.allows(0)


def test_bucket() -> None:
    now = 0.0
    bucket = Bucket(rate=0.5, burst=3, clock=lambda: now)
    assert [bucket.allows("a") for _ in range(4)] == [True, True, True, False]
    assert bucket.allows("b")
    now = 2.0
    assert [bucket.allows("a") for _ in range(2)] == [True, False]
