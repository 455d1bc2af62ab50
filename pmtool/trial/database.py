"""Participants and their answers in SQLite; acknowledged answers survive a crash."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pmtool.errors import InputError, OutputError
from pmtool.trial.design import ITEMS, Side

_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS participants (
    id INTEGER PRIMARY KEY,
    link TEXT NOT NULL UNIQUE,
    speciality TEXT NOT NULL,
    years INTEGER NOT NULL CHECK (years >= 0),
    consented TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE IF NOT EXISTS answers (
    participant INTEGER NOT NULL REFERENCES participants,
    item INTEGER NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('left', 'right')),
    milliseconds INTEGER NOT NULL CHECK (milliseconds >= 0),
    answered TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (participant, item)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undone (
    participant INTEGER NOT NULL,
    item INTEGER NOT NULL,
    side TEXT NOT NULL,
    milliseconds INTEGER NOT NULL,
    answered TEXT NOT NULL,
    undone TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
"""
_BY_LINK = "SELECT * FROM participants WHERE link = ?"
_NO_ROOM = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR
_PATIENCE = 30.0  # seconds for another process to finish its transaction


_Execute = Callable[..., Any]


class OutOfTurnError(Exception):
    """Raised by an answer to an item other than the next, or by undoing one other than the last."""


class Participant(NamedTuple):
    """A participant.

    Attributes
    ----------
    id
        Number of the participant, from 1 in the order of consent.
    link
        Secret part of the personal link.
    speciality, years
        Speciality and years of experience.
    consented
        Time of consent, in UTC, ISO 8601.
    """

    id: int
    link: str
    speciality: str
    years: int
    consented: str


class Stored(NamedTuple):
    """A stored answer.

    Attributes
    ----------
    participant
        Number of the participant.
    item
        Number of the item in the participant's plan, from 0.
    side
        Side that was chosen.
    milliseconds
        Time from the display of the slices to the answer.
    answered
        Time of the answer, in UTC, ISO 8601.
    """

    participant: int
    item: int
    side: Side
    milliseconds: int
    answered: str


class Database:
    """The database file; every method is one transaction, which is on disk when it returns."""

    def __init__(self, path: Path, *, only_reads: bool = False) -> None:
        """Open a database, or create one that only its owner can read.

        Parameters
        ----------
        path
            Path of the database.
        only_reads
            Whether to open it for reading, which needs no right to write; without a file, it is
            empty.

        Raises
        ------
        InputError
            If it cannot be opened or is not a usable database.
        OutputError
            If there is no room to write.
        """
        self._lock = Lock()
        self._begin = "BEGIN" if only_reads else "BEGIN IMMEDIATE"
        try:
            self._connection = _connect_for_reading(path) if only_reads else _connect(path)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path} cannot be opened: {error}") from error
        try:
            self._connection.executescript(_SCHEMA if only_reads else _SETTINGS + _SCHEMA)
        except sqlite3.Error as error:
            self.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_ROOM:
                raise OutputError(f"{path} cannot be written: {error}; make room for it") from error
            raise InputError(f"{path} is not a usable database: {error}") from error

    def close(self) -> None:
        """Close the database; all data are then in one file."""
        self._connection.close()

    def enrol(self, speciality: str, years: int) -> Participant:
        """Add and return a new participant."""
        insert = "INSERT INTO participants (link, speciality, years) VALUES (?, ?, ?)"
        link = secrets.token_urlsafe(16)
        with self._transaction() as execute:
            execute(insert, (link, speciality, years))
            return Participant(*execute(_BY_LINK, (link,)).fetchone())

    def by_link(self, link: str) -> Participant | None:
        """Return the participant with a personal link; None if there is none."""
        with self._transaction() as execute:
            row = execute(_BY_LINK, (link,)).fetchone()
        return None if row is None else Participant(*row)

    def answered(self, participant: int) -> int:
        """Number of a participant's answers, which is also the number of the next item."""
        with self._transaction() as execute:
            return _answered(execute, participant)

    def answer(self, participant: int, item: int, side: Side, milliseconds: int) -> None:
        """Store an answer; raises `OutOfTurnError` unless it is to the next item."""
        insert = "INSERT INTO answers (participant, item, side, milliseconds) VALUES (?, ?, ?, ?)"
        with self._transaction() as execute:
            if not item == _answered(execute, participant) < ITEMS:
                raise OutOfTurnError
            execute(insert, (participant, item, side, milliseconds))

    def undo(self, participant: int, item: int) -> None:
        """Take an answer back; raises `OutOfTurnError` unless it is the last one."""
        which = "WHERE participant = ? AND item = ?"
        columns = "participant, item, side, milliseconds, answered"
        with self._transaction() as execute:
            if item < 0 or item != _answered(execute, participant) - 1:
                raise OutOfTurnError
            copy = f"INSERT INTO undone ({columns}) SELECT {columns} FROM answers {which}"
            execute(copy, (participant, item))
            execute(f"DELETE FROM answers {which}", (participant, item))

    def participants(self) -> list[Participant]:
        """All participants in order of their numbers."""
        with self._transaction() as execute:
            rows = execute("SELECT * FROM participants ORDER BY id").fetchall()
        return [Participant(*row) for row in rows]

    def answers(self) -> list[Stored]:
        """All answers that stand, in order of participants and items."""
        with self._transaction() as execute:
            rows = execute("SELECT * FROM answers ORDER BY participant, item").fetchall()
        return [Stored(*row) for row in rows]

    def undone(self) -> int:
        """Number of answers that were taken back."""
        with self._transaction() as execute:
            return int(execute("SELECT count(*) FROM undone").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[_Execute]:
        with self._lock:
            self._connection.execute(self._begin)
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back after some errors
                    self._connection.execute("ROLLBACK")
                raise


def _answered(execute: _Execute, participant: int) -> int:
    query = "SELECT count(*) FROM answers WHERE participant = ?"
    return int(execute(query, (participant,)).fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, _PATIENCE, isolation_level=None, check_same_thread=False)


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Connect without writing; a database without a journal, which nobody has open, is one file."""
    if not path.exists():
        return sqlite3.connect(":memory:", isolation_level=None)
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    place = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(place, _PATIENCE, isolation_level=None, uri=True)
