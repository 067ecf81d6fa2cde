"""The SQLite file behind a store: live keys as of the last commit, and revisions given away.

The file holds no history: watchers list anew after a restart, so a table of live keys is all that
a store must find again. Revisions are reserved in blocks, since some are used without a commit
(volatile keys): whatever happens, the next start begins above every revision that anyone has seen.

Everything here blocks, and belongs to one thread at a time.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sampan.store.errors import (
    CannotOpen,
    Damaged,
    DiskFull,
    InUse,
    NewerFormat,
    NotWritable,
    WriteFailed,
)
from sampan.store.interface import Change

FORMAT: Final = 1
RESERVE: Final = 100_000
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""How much may be written between two checkpoints; they otherwise wait for idle time."""

_PAGE: Final = 4096
_SCHEMA: Final = """
CREATE TABLE current (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE reserved (revision INTEGER NOT NULL);
INSERT INTO reserved VALUES (0);
"""
_PUT: Final = """
INSERT INTO current VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value
"""


class Journal:
    """Raises CannotOpen, with what to do about it, if *path* cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserved = 0
        self._since_checkpoint = 0
        self._db = self._open()
        try:
            with _explained(path):
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def load(self) -> tuple[int, list[Change]]:
        """Return a revision that was never used, and the live keys."""
        with _explained(self._path):
            rows = self._db.execute("SELECT key, revision, value FROM current")
            live = [Change(key, revision, value) for key, revision, value in rows]
            (self._reserved,) = self._db.execute("SELECT revision FROM reserved").fetchone()
        newest = max((change.revision for change in live), default=0)
        return max(self._reserved, newest) + 1, live

    def must_commit(self, revision: int) -> bool:
        """Tell whether *revision* may be used only after a commit."""
        return revision > self._reserved

    def commit(self, changes: Sequence[Change], newest: int) -> None:
        """Make *changes* durable, and the right to use revisions through *newest*.

        Raises WriteFailed, and then nothing of it has happened.
        """
        last = {change.key: change for change in changes}.values()
        puts = [(c.key, c.revision, c.value) for c in last if c.value is not None]
        reserve = newest + RESERVE if newest + RESERVE // 2 > self._reserved else 0
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_PUT, puts)
            gone = [(c.key,) for c in last if c.value is None]
            self._db.executemany("DELETE FROM current WHERE key = ?", gone)
            if reserve:
                self._db.execute("UPDATE reserved SET revision = ?", (reserve,))
            self._db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _write_failed(self._path, error) from error
            raise
        self._reserved = reserve or self._reserved
        self._since_checkpoint += sum(len(value) + _PAGE for _, _, value in puts) + _PAGE * len(
            gone
        )

    @property
    def wants_checkpoint(self) -> bool:
        return self._since_checkpoint > 0

    @property
    def needs_checkpoint(self) -> bool:
        return self._since_checkpoint > CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Move what was committed from the log into the database; raise WriteFailed if it stays."""
        self._since_checkpoint = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise _write_failed(self._path, error) from error

    def close(self, revision: int) -> None:
        """Let go of the file; *revision* was the newest, so nothing above it stays reserved."""
        try:
            self._db.execute("UPDATE reserved SET revision = ?", (revision,))
        except sqlite3.Error:
            pass  # the reservation stays, and the next start jumps as after a crash
        finally:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        directory = self._path.parent
        if not directory.is_dir():
            raise CannotOpen(f"{directory}: there is no such directory; create it first")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise NotWritable(
                f"{directory}: not writable by uid {os.geteuid()}; change its owner or mode, "
                "or choose another data directory"
            )
        if not self._path.exists():
            with suppress(OSError):  # SQLite will say what is wrong
                self._path.touch(mode=0o600)
        with _explained(self._path):
            return sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )

    def _prepare(self) -> None:
        db = self._db
        db.execute(f"PRAGMA page_size={_PAGE}")
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise NewerFormat(
                f"{self._path}: has format {version}, but this Sampan knows only {FORMAT}; "
                "install the version that wrote it, or restore a backup from before"
            )
        self._refuse_unsound(version)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in _SCHEMA.strip().split(";")[:-1]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")

    def _refuse_unsound(self, version: int) -> None:
        """Look before anything is written: a file that is refused stays as it was."""
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(self._path, verdict)
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables:
            raise _damaged(self._path, "it is another program's database")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors while opening into ours."""
    try:
        yield
    except sqlite3.Error as error:
        match _primary_code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise InUse(
                    f"{path}: another process has it open; stop the other sampan server "
                    f"(`fuser {path}` names it), or choose another data directory"
                ) from error
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                raise _damaged(path, str(error)) from error
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                raise NotWritable(
                    f"{path}: {error}; make it and its directory writable for uid {os.geteuid()}"
                ) from error
            case sqlite3.SQLITE_FULL:
                raise DiskFull(f"{path}: no room on its disk; free some and start again") from error
            case _:
                raise CannotOpen(
                    f"{path}: {error}; look into the kernel log of this machine"
                ) from error


def _damaged(path: Path, detail: str) -> Damaged:
    return Damaged(
        f"{path}: not a sound database ({detail}); keep a copy of it and its -wal file, then "
        "restore a backup, or move it away to start an empty cluster"
    )


def _write_failed(path: Path, error: sqlite3.Error) -> WriteFailed:
    if _primary_code(error) == sqlite3.SQLITE_FULL:
        return DiskFull(
            f"{path}: nothing was written, its disk is full; free some room and try again"
        )
    return WriteFailed(f"{path}: nothing was written ({error}); check its disk and try again")


def _primary_code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
