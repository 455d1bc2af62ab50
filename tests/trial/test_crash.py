"""The human trial's server under load and under attack: no answer is lost or doubled."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pmtool.cli.console import run_command
from pmtool.main import cli
from pmtool.trial.design import ITEMS
from pmtool.trial.folder import Trial

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

Serve = Callable[[Path], tuple[str, subprocess.Popen[str]]]
Visit = Callable[[str], Any]


def stored(folder: Path) -> list[tuple[int, int, str]]:
    with sqlite3.connect(folder / "answers.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT participant, item, side FROM answers ORDER BY participant, item"
        rows = database.execute(query).fetchall()
    database.close()
    return rows


def play(person: Any, seed: int) -> list[tuple[int, str]]:
    """A participant with own opinions, who undoes now and then and sends everything twice."""
    rng = np.random.default_rng(seed)
    assert person.consent().status_code == 303
    chosen: list[str] = []
    while len(chosen) < ITEMS:
        item, side = len(chosen), str(rng.choice(["left", "right"]))
        assert person.get(f"/trial/items/{item}").status_code == 200
        with ThreadPoolExecutor(2) as twice:
            codes = sorted(twice.map(person.answer, [item] * 2, [side] * 2))
        assert codes == [204, 409]
        chosen.append(side)
        if rng.random() < 0.1:
            assert person.undo(item) == 204
            chosen.pop()
    return list(enumerate(chosen))


def test_64_participants_at_once(trial_folder: Path, serve_trial: Serve, visit: Visit) -> None:
    """No answer is lost or doubled, and the report counts what was answered."""
    address, _ = serve_trial(trial_folder)
    people = [visit(address) for _ in range(64)]
    with ThreadPoolExecutor(64) as pool:
        played = list(pool.map(play, people, range(64)))
    rows = stored(trial_folder)
    assert len(rows) == len(set(rows)) == 64 * ITEMS
    by_person: dict[int, list[tuple[int, str]]] = {}
    for participant, item, side in rows:
        by_person.setdefault(participant, []).append((item, side))
    assert sorted(by_person.values()) == sorted(played)
    assert run_command(cli, ["trial", "report", str(trial_folder)]) == 0
    told = json.loads((trial_folder / "report" / "report.json").read_text())
    trial = Trial.load(trial_folder)
    won = sum(trial.plan(who)[item].side == side for who, item, side in rows)
    assert (told["overall"]["won"], told["overall"]["answers"]) == (won, 64 * ITEMS)
    assert told["finished"] == 64


def test_killed_in_the_middle_of_answers(
    trial_folder: Path, serve_trial: Serve, visit: Visit
) -> None:
    """What was acknowledged is there; what was not is there whole or not at all."""
    for round_ in range(3):
        address, server = serve_trial(trial_folder)
        people = [visit(address) for _ in range(4)]
        for person in people:
            person.consent()
        links = [person.link() for person in people]
        acknowledged = [0] * len(people)

        def answer(number: int) -> None:
            for item in range(ITEMS):
                try:
                    assert people[number].answer(item, "left") == 204  # noqa: B023
                except httpx.TransportError:
                    return
                acknowledged[number] = item + 1  # noqa: B023

        threads = [threading.Thread(target=answer, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while sum(acknowledged) < 6 + 5 * round_:
            threads[0].join(0.001)
        server.kill()
        for thread in threads:
            thread.join()
        counts = Counter(participant for participant, _, _ in stored(trial_folder))
        for number, known in enumerate(acknowledged):
            assert counts[4 * round_ + number + 1] - known in (0, 1)
        again, _ = serve_trial(trial_folder)
        for number, link in enumerate(links):
            person = visit(again)
            person.open(link)
            assert person.answered() == counts[4 * round_ + number + 1]
