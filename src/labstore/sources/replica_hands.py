"""What is said to a replica server: in plain statements, or through the procedures that `host-setup` made there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pymysql

from labstore.formats import account_procedures as procedures
from labstore.formats import account_statements as statements
from labstore.formats import grant_tables
from labstore.model.accounts import DbUser, Limits
from labstore.model.database import DbGrant, FoundAccount, GrantType, WantedAccount
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.ports.replica_server import Session
from labstore.sources.mariadb import connection_arguments

EXISTS = 1396
"""The account is there already, or is not: the server has one number for both."""
ABSENT = frozenset({1396, 1141, 1133})
READ_ONLY = frozenset({1290, 1836})
_LOST = frozenset({0, 1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1927, 3100})
"""Server errors that end a connection; those of the client are 2000 to 2999. Classes mean nothing: the driver raised
different ones for the same number over the years."""
GONE = frozenset({1094, 1957})
"""The session, or the statement, ended by itself."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NO_PROCEDURES = frozenset({1305, 1370, 1044, 1049, 1142})


class Lost(Exception):
    """The server cannot be reached, or stopped answering. `idle`: the connection was found closed at first use."""

    def __init__(self, reason: str, idle: bool = False) -> None:
        super().__init__(reason)
        self.idle = idle


class Refused(Exception):
    """The server said no; `number` is its error."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class Bucket(int):
    """A part of the accounts, by their numbers."""

    COUNT: ClassVar[int] = procedures.BUCKETS


@dataclass
class Line:
    """What the grant tables have about one account."""

    priv: str = ""
    roles: list[str] = field(default_factory=list)
    grants: list[DbGrant] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)

    def found(self) -> FoundAccount | None:
        """None for grants without an account, which a server can be left with."""
        return grant_tables.account(self.priv, self.roles, self.grants, self.surplus) if self.priv else None


class Hands(Protocol):
    """One connection. Every call raises Lost or Refused."""

    def digests(self) -> Mapping[Bucket, tuple[object, ...]]: ...

    def everything(self) -> Mapping[DbUser, Line]: ...

    def buckets(self, buckets: Sequence[Bucket]) -> Mapping[DbUser, Line]: ...

    def some(self, users: Sequence[DbUser]) -> Mapping[DbUser, Line]: ...

    def sessions(self) -> tuple[Session, ...]: ...

    def read_only(self) -> bool: ...

    def create(self, wanted: Sequence[WantedAccount]) -> None: ...

    def alter(self, wanted: Sequence[WantedAccount]) -> None: ...

    def revoke(self, users: Sequence[DbUser]) -> None: ...

    def grant(self, users: Sequence[DbUser]) -> None: ...

    def lock(self, users: Sequence[DbUser]) -> None: ...

    def drop(self, users: Sequence[DbUser]) -> None: ...

    def kill(self, users: Sequence[DbUser]) -> None: ...

    def end_statement(self, session: Session) -> bool: ...

    def end_session(self, session: Session) -> bool: ...

    def close(self) -> None: ...


class Wire:
    """A connection with deadlines, and its errors as Lost and Refused. `before` is called before each statement."""

    def __init__(self, settings: ReplicaSettings, before: Callable[[str], None] = lambda _sql: None) -> None:
        s = settings
        self._before = before
        with self._failing():
            self._db = pymysql.connect(
                **connection_arguments(s.key.host, s.key.port, s.socket, s.user, s.password, s.tls, s.ca_file),
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=s.connect_deadline,
                read_timeout=s.deadline,
                write_timeout=s.deadline,
            )

    def ask(self, sql: str, *values: object) -> list[list[tuple[Any, ...]]]:
        """Every result set of a statement, empty ones among them."""
        self._before(sql)
        with self._failing(), self._db.cursor() as cursor:
            cursor.execute(sql, values or None)
            sets = [list(cursor.fetchall())]
            while cursor.nextset():
                sets.append(list(cursor.fetchall()))
        return sets

    def close(self) -> None:
        if self._db.open:
            self._db.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except pymysql.MySQLError as error:
            number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            reason = str(error.args[1]) if len(error.args) > 1 else str(error)
            if number in _LOST or 2000 <= number < 3000:
                raise Lost(f"{reason} ({number})", idle=number in (2006, 2013, 0)) from error
            raise Refused(number, reason) from error
        except OSError as error:
            raise Lost(str(error)) from error


@dataclass
class PlainHands:
    """With the login's own rights."""

    wire: Wire
    settings: ReplicaSettings

    def __post_init__(self) -> None:
        if not self.settings.keep_binlog:
            self.wire.ask("SET SESSION sql_log_bin = 0")

    def digests(self) -> Mapping[Bucket, tuple[object, ...]]:
        return _digests(self.wire.ask(procedures.DIGESTS)[0])

    def everything(self) -> Mapping[DbUser, Line]:
        return self._lines("TRUE")

    def buckets(self, buckets: Sequence[Bucket]) -> Mapping[DbUser, Line]:
        return self._lines(procedures.in_buckets(buckets))

    def some(self, users: Sequence[DbUser]) -> Mapping[DbUser, Line]:
        return self._lines(f"User IN ({', '.join(repr(str(user)) for user in users)})") if users else {}

    def _lines(self, which: str) -> Mapping[DbUser, Line]:
        return _lines([self.wire.ask(question)[0] for question in procedures.rows(which)])

    def sessions(self) -> tuple[Session, ...]:
        return _sessions(self.wire.ask(procedures.SESSIONS)[0])

    def read_only(self) -> bool:
        return bool(self.wire.ask("SELECT @@global.read_only")[0][0][0])

    def create(self, wanted: Sequence[WantedAccount]) -> None:
        self.wire.ask(statements.create(wanted))

    def alter(self, wanted: Sequence[WantedAccount]) -> None:
        self.wire.ask(statements.alter(wanted))

    def revoke(self, users: Sequence[DbUser]) -> None:
        self.wire.ask(statements.revoke(users))
        self.grant(users)

    def grant(self, users: Sequence[DbUser]) -> None:
        if self.settings.grant_type is GrantType.ROLE:
            role = self.settings.role
            self.wire.ask(statements.grant_role(role, users))
            self.wire.ask(statements.default_roles(role, users))
            return
        self.wire.ask(statements.grant_public_views(users))
        each = [statements.grant_own_databases(user) for user in users]
        # one compound statement, since each of them is for one account only
        self.wire.ask(f"BEGIN NOT ATOMIC {'; '.join(each)}; END" if len(each) > 1 else each[0])

    def lock(self, users: Sequence[DbUser]) -> None:
        self.wire.ask(statements.lock(users))

    def drop(self, users: Sequence[DbUser]) -> None:
        self.wire.ask(statements.drop(users))

    def kill(self, users: Sequence[DbUser]) -> None:
        for user in users:
            self.wire.ask(statements.kill_sessions(user))

    def end_statement(self, session: Session) -> bool:
        return self._ended(statements.kill_statement(session.query_id))

    def end_session(self, session: Session) -> bool:
        return self._ended(f"KILL CONNECTION {session.number}")

    def _ended(self, sql: str) -> bool:
        try:
            self.wire.ask(sql)
        except Refused as error:
            if error.number in GONE:
                return False
            raise
        return True

    def close(self) -> None:
        self.wire.close()


@dataclass
class ProcedureHands:
    """With EXECUTE on the procedures, and no other right."""

    wire: Wire
    settings: ReplicaSettings

    def digests(self) -> Mapping[Bucket, tuple[object, ...]]:
        return _digests(self._call("read_digests")[0])

    def everything(self) -> Mapping[DbUser, Line]:
        return _lines(self._call("read_accounts"))

    def buckets(self, buckets: Sequence[Bucket]) -> Mapping[DbUser, Line]:
        return _lines(self._call("read_buckets", json.dumps([int(bucket) for bucket in buckets])))

    def some(self, users: Sequence[DbUser]) -> Mapping[DbUser, Line]:
        return _lines(self._call("read_some", _users(users))) if users else {}

    def sessions(self) -> tuple[Session, ...]:
        return _sessions(self._call("read_sessions")[0])

    def read_only(self) -> bool:
        return bool(self.wire.ask("SELECT @@global.read_only")[0][0][0])

    def create(self, wanted: Sequence[WantedAccount]) -> None:
        self._call("create_accounts", _hashes(wanted), *_numbers(wanted[0].limits))

    def alter(self, wanted: Sequence[WantedAccount]) -> None:
        self._call("alter_accounts", _hashes(wanted), *_numbers(wanted[0].limits), int(wanted[0].locked))

    def revoke(self, users: Sequence[DbUser]) -> None:
        self._call("revoke_accounts", _users(users))

    def grant(self, users: Sequence[DbUser]) -> None:
        self._call("grant_accounts", _users(users))

    def lock(self, users: Sequence[DbUser]) -> None:
        self._call("lock_accounts", _users(users))

    def drop(self, users: Sequence[DbUser]) -> None:
        self._call("drop_accounts", _users(users))

    def kill(self, users: Sequence[DbUser]) -> None:
        self._call("end_sessions", _users(users))

    def end_statement(self, session: Session) -> bool:
        return bool(self._call("end_statement", session.query_id)[0][0][0])

    def end_session(self, session: Session) -> bool:
        return bool(self._call("end_session", session.number)[0][0][0])

    def close(self) -> None:
        self.wire.close()

    def _call(self, name: str, *values: object) -> list[list[tuple[Any, ...]]]:
        marks = ", ".join(["%s"] * len(values))
        return self.wire.ask(f"CALL `{self.settings.procedures}`.{name}({marks})", *values)


def connect(settings: ReplicaSettings, before: Callable[[str], None] = lambda _sql: None) -> Hands:
    """Through the procedures if the server has those of this program, else with plain statements. Raises Lost,
    Refused."""
    wire = Wire(settings, before)
    try:
        if _IDENTIFIER.fullmatch(settings.procedures):
            found = wire.ask(f"CALL `{settings.procedures}`.read_version()")[0]
            if found and _fits(found[0], settings):
                return ProcedureHands(wire, settings)
    except Refused as error:
        if error.number not in _NO_PROCEDURES:
            wire.close()
            raise
    return PlainHands(wire, settings)


def _fits(found: tuple[Any, ...], settings: ReplicaSettings) -> bool:
    """Whether the procedures there are of the version, the type and the role that the configuration wants."""
    version, grant_type, role = (str(word) for word in found)
    wanted_role = settings.grant_type is not GrantType.ROLE or role == settings.role
    return version.split()[0] == str(procedures.VERSION) and grant_type == settings.grant_type and wanted_role


def _digests(found: Sequence[tuple[Any, ...]]) -> dict[Bucket, tuple[object, ...]]:
    digests: dict[Bucket, tuple[object, ...]] = {}
    for bucket, number, digest in found:
        key = Bucket(bucket)
        digests[key] = (*digests.get(key, ()), int(number), int(digest))
    return digests


def _lines(sets: Sequence[Sequence[tuple[Any, ...]]]) -> dict[DbUser, Line]:
    """What the four questions answered, by account; names that only look like ours are left out."""
    lines: dict[DbUser, Line] = {}

    def line(name: object) -> Line | None:
        text = name.decode() if isinstance(name, bytes) else str(name)
        return lines.setdefault(DbUser(text), Line()) if DbUser.grammar.fullmatch(text) else None

    accounts, roles, grants, surplus = sets[:4]
    for name, priv in accounts:
        if (found := line(name)) is not None:
            found.priv = str(priv)
    for name, role in roles:
        if (found := line(name)) is not None:
            found.roles.append(str(role))
    for name, pattern, flags in grants:
        if (found := line(name)) is not None:
            found.grants.append(grant_tables.db_grant(str(pattern), str(flags)))
    for name, words in surplus:
        if (found := line(name)) is not None:
            found.surplus.append(str(words))
    return lines


def _sessions(found: Sequence[tuple[Any, ...]]) -> tuple[Session, ...]:
    return tuple(
        Session(int(number), int(query), DbUser(name), float(seconds), bool(running))
        for number, query, name, seconds, running in found
        if DbUser.grammar.fullmatch(name)
    )


def _users(users: Sequence[DbUser]) -> str:
    return json.dumps([{"u": user} for user in users])


def _hashes(wanted: Sequence[WantedAccount]) -> str:
    return json.dumps([{"u": each.user, "h": list(each.verifiers)} for each in wanted])


def _numbers(limits: Limits) -> tuple[int, int, int]:
    return limits.max_connections, limits.statement_seconds, limits.queries_per_hour
