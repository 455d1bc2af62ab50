"""A human trial, served by the real command, and its participants."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmtool.evaluation.methods import CLASSICAL, PIXELMINER
from pmtool.evaluation.scan import ScanSlice
from pmtool.evaluation.scoring import REFERENCE
from pmtool.trial.design import make_plans
from pmtool.trial.folder import IMAGES, Trial


@pytest.fixture
def trial_folder(tmp_path: Path) -> Path:
    """A human trial of 14 slices of 40x48 noise, prepared for 16 participants."""
    folder, rng = tmp_path / "trial", np.random.default_rng(0)
    (folder / IMAGES).mkdir(parents=True)
    slices = [ScanSlice("scan.nrrd", 2 * number + 1) for number in range(14)]
    plans = make_plans(len(slices), list(CLASSICAL), 16, 0)
    trial = Trial(folder, list(CLASSICAL), slices, plans, {})
    for number in range(len(slices)):
        for method in (REFERENCE, PIXELMINER, *CLASSICAL):
            values = rng.integers(-1024, 400, (40, 48)).astype(np.int16)
            np.save(trial.image_path(number, method), values)
    trial.save()
    return folder


@pytest.fixture
def serve_trial() -> Iterator[Callable[[Path], tuple[str, subprocess.Popen[str]]]]:
    """Serves a human trial by the real command: its address and process, killed at the end."""
    servers: list[subprocess.Popen[str]] = []

    def serve(folder: Path) -> tuple[str, subprocess.Popen[str]]:
        command = (sys.executable, "-m", "pmtool", "trial", "serve", str(folder), "--port", "0")
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stderr is not None
        address = server.stderr.readline().removeprefix("participants: ").strip()
        assert address.startswith("http://127.0.0.1:")
        return address, server

    yield serve
    for server in servers:
        server.kill()
        server.communicate()


class Person:
    """A participant of the human trial, by HTTP."""

    def __init__(self, address: str) -> None:
        import httpx

        self.client = httpx.Client(base_url=address, timeout=60)
        self.token = ""

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def post(self, path: str, **values: object) -> Any:
        return self.client.post(path, data={"form_token": self.token, **values})

    def open(self, path: str) -> Any:
        """A page; its token is kept for what is sent next."""
        page = self.client.get(path, follow_redirects=True)
        (self.token,) = set(re.findall(r'form[-_]token" (?:value|content)="([^"]+)"', page.text))
        return page

    def consent(self, **changes: object) -> Any:
        self.open("/")
        values = {"speciality": "Radiology", "years": 3, "consent": "yes", **changes}
        answer = self.post("/", **values)
        if answer.status_code == 303:
            self.open("/trial")
        return answer

    def link(self) -> str:
        (found,) = re.findall(r"/resume/[\w-]+", self.open("/trial").text)
        return str(found)

    def answer(self, item: int, side: str, **changes: object) -> int:
        values = {"item": item, "side": side, "milliseconds": 1500, **changes}
        return int(self.post("/trial/answers", **values).status_code)

    def undo(self, item: int) -> int:
        return int(self.post("/trial/undo", item=item).status_code)

    def answered(self) -> int:
        return int(self.get("/trial/state").json()["answered"])


@pytest.fixture
def visit() -> Iterator[Callable[[str], Person]]:
    """Makes persons who have opened no page yet."""
    people: list[Person] = []

    def come(address: str) -> Person:
        people.append(Person(address))
        return people[-1]

    yield come
    for person in people:
        person.client.close()
