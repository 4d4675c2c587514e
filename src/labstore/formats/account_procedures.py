"""The procedures that let labstore's login on a replica server do its work and nothing else.

They belong to a locked account on the server, check every name, hash and number themselves, refuse accounts that are
not a tool's or a user's, and decide alone which rights an account gets. A stolen login can make trouble for tools; it
cannot make an administrator.
"""

# ruff: noqa: S608 - every part of these statements is fixed text, or matched against a strict pattern here

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from labstore.formats.account_statements import PUBLIC_VIEWS
from labstore.formats.grant_tables import PRIVILEGES
from labstore.model.accounts import NATIVE_PLUGIN
from labstore.model.database import GrantType, RoleName

BUCKETS = 64
"""Into so many parts the accounts are divided for the digests: a change costs reading one of them."""
_NAME = "[sup][1-9][0-9]{0,9}"
OURS = f"^{_NAME}$"
"""The pattern of DbUser, for the server."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_HOST_PART = re.compile(r"[A-Za-z0-9.:%_/-]{1,255}")

# --- what is read, by the login itself or by the procedures ----------------------------------------------------------

_MINE = f"Host = '%' AND User RLIKE '{OURS}'"
_BUCKET = f"CAST(SUBSTR(User, 2) AS UNSIGNED) % {BUCKETS}"
_FLAGS = ", ".join(f"{name}_priv" for name in PRIVILEGES)


def _digest(table: str, columns: str) -> str:
    text = f"CONCAT_WS('\\n', User, {columns})"
    number = f"CAST(CONV(LEFT(MD5({text}), 16), 16, 10) AS UNSIGNED)"
    return (
        f"SELECT {_BUCKET} AS bucket, COUNT(*) AS number, BIT_XOR({number}) AS digest "
        f"FROM mysql.{table} WHERE {_MINE} GROUP BY bucket"
    )


DIGESTS = " UNION ALL ".join(
    (
        _digest("global_priv", "Priv"),
        _digest("roles_mapping", "Role"),
        _digest("db", f"Db, {_FLAGS}"),
        _digest("tables_priv", "Db, Table_name, Table_priv, Column_priv"),
        _digest("procs_priv", "Db, Routine_name, Routine_type, Proc_priv"),
    )
)
"""Bucket, number of rows and digest, once per grant table and bucket; any change of any account of ours changes one."""


def rows(which: str) -> tuple[str, ...]:
    """The four questions that tell all about accounts: global, roles, databases, and whatever is beyond. `which` is a
    condition on User."""
    mine = f"{_MINE} AND {which}"
    return (
        f"SELECT User, Priv FROM mysql.global_priv WHERE {mine}",
        f"SELECT User, Role FROM mysql.roles_mapping WHERE {mine}",
        f"SELECT User, Db, CONCAT({_FLAGS}) FROM mysql.db WHERE {mine}",
        f"SELECT User, CONCAT('table ', Db, '.', Table_name) FROM mysql.tables_priv WHERE {mine} "
        f"UNION SELECT User, CONCAT('routine ', Db, '.', Routine_name) FROM mysql.procs_priv WHERE {mine}",
    )


def in_buckets(buckets: Sequence[int]) -> str:
    return f"{_BUCKET} IN ({', '.join(str(int(bucket)) for bucket in buckets)})"


_RUNNING = "COMMAND NOT IN ('Sleep', 'Killed')"
"""Whatever else a session does; an event of the server's scheduler is always at `Connect`."""
SESSIONS = (
    f"SELECT ID, QUERY_ID, USER, IF({_RUNNING}, TIME_MS / 1000, 0), {_RUNNING} "
    f"FROM information_schema.PROCESSLIST WHERE USER RLIKE '{OURS}'"
)
STATE = "SELECT @@global.read_only, @@version"


def _exactly(column: str, pattern: str) -> str:
    """Whether the whole text matches: `$` alone would let a line feed follow."""
    return f"BINARY REGEXP_SUBSTR({column}, BINARY '{pattern}') = BINARY {column}"


# --- the procedures --------------------------------------------------------------------------------------------------

VERSION = 2
"""Of what the procedures take and give."""
_BATCH = "batch LONGTEXT CHARACTER SET ascii"
_USERS = "JSON_TABLE(batch, '$[*]' COLUMNS(u VARCHAR(80) CHARACTER SET ascii PATH '$.u')) t"
_HASHES = (
    "JSON_TABLE(batch, '$[*]' COLUMNS(u VARCHAR(80) CHARACTER SET ascii PATH '$.u', "
    "NESTED PATH '$.h[*]' COLUMNS(n FOR ORDINALITY, h VARCHAR(80) CHARACTER SET ascii PATH '$'))) t"
)
_LISTED = "SELECT GROUP_CONCAT('''', u, '''@''%''') INTO list FROM " + _USERS
_IDENTIFIED = (
    f"SELECT GROUP_CONCAT(one) INTO list FROM (SELECT CONCAT('''', u, '''@''%'' IDENTIFIED VIA ', "
    f"GROUP_CONCAT(CONCAT('{NATIVE_PLUGIN} USING ''', h, '''') ORDER BY n SEPARATOR ' OR ')) AS one "
    f"FROM {_HASHES} GROUP BY u) each_account"
)
_LIMITS = "connections INT UNSIGNED, seconds INT UNSIGNED, queries INT UNSIGNED"
_WITH = (
    "CONCAT(' WITH MAX_USER_CONNECTIONS ', connections, ' MAX_STATEMENT_TIME ', seconds, "
    "' MAX_QUERIES_PER_HOUR ', queries)"
)


@dataclass(frozen=True)
class Setup:
    """What `host-setup` makes on one server. `login` is the account labstore connects as, `source` where from."""

    database: str
    login: str
    source: str
    grant_type: GrantType
    role: RoleName
    keep_binlog: bool = False

    def __post_init__(self) -> None:
        for word in (self.database, self.login):
            if _IDENTIFIER.fullmatch(word) is None:
                raise ValueError(f"{word!r} is not a name of letters, digits and '_'")
        if _HOST_PART.fullmatch(self.source) is None:
            raise ValueError(f"{self.source!r} is not the host part of an account")

    @property
    def definer(self) -> str:
        return f"'{self.database}_definer'@'localhost'"

    @property
    def version(self) -> str:
        """Changes whenever anything of the procedures does."""
        text = "\n".join((*self.procedures(), self.definer))
        return f"{VERSION} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def statements(self) -> tuple[str, ...]:
        """All of it, in order; each may be repeated. The login itself (with its password) is made by an administrator
        before."""
        return (
            f"CREATE DATABASE IF NOT EXISTS `{self.database}`",
            f"CREATE USER IF NOT EXISTS {self.definer} ACCOUNT LOCK",
            *self._rights(),
            *self.procedures(),
            self._version_procedure(),
            f"GRANT EXECUTE ON `{self.database}`.* TO '{self.login}'@'{self.source}'",
        )

    def plain_rights(self) -> tuple[str, ...]:
        """What the login needs on a server without the procedures."""
        login = f"'{self.login}'@'{self.source}'"
        return tuple(line.replace(self.definer, login) for line in self._rights() if "EXECUTE" not in line)

    def _rights(self) -> tuple[str, ...]:
        powers = "CREATE USER, PROCESS, CONNECTION ADMIN" + ("" if self.keep_binlog else ", BINLOG ADMIN")
        common = (
            f"GRANT {powers}, READ_ONLY ADMIN ON *.* TO {self.definer}",
            f"GRANT SELECT, UPDATE ON mysql.* TO {self.definer}",
            f"GRANT EXECUTE ON `{self.database}`.* TO {self.definer}",
        )
        if self.grant_type is GrantType.ROLE:
            return (
                *common,
                f"CREATE ROLE IF NOT EXISTS `{self.role}`",
                f"GRANT `{self.role}` TO {self.definer} WITH ADMIN OPTION",
            )
        return (
            *common,
            f"GRANT SELECT, SHOW VIEW ON `{PUBLIC_VIEWS.pattern}`.* TO {self.definer} WITH GRANT OPTION",
            rf"GRANT ALL PRIVILEGES ON `%\_\_%`.* TO {self.definer} WITH GRANT OPTION",
        )

    # --- bodies -----------------------------------------------------------------------------------------------------

    def procedures(self) -> tuple[str, ...]:
        return (
            self._check(),
            self._writer("create_accounts", f"{_BATCH}, {_LIMITS}", f"{self._checked(True)} {_IDENTIFIED};", self._run(
                f"CONCAT('CREATE USER ', list, {_WITH})")),
            self._writer(
                "alter_accounts",
                f"{_BATCH}, {_LIMITS}, locked BOOLEAN",
                f"{self._checked(True)} {_IDENTIFIED};",
                self._run(f"CONCAT('ALTER USER ', list, {_WITH}, IF(locked, ' ACCOUNT LOCK', ' ACCOUNT UNLOCK'))"),
            ),
            self._writer("lock_accounts", _BATCH, f"{self._checked()} {_LISTED};", self._run(
                "CONCAT('ALTER USER ', list, ' ACCOUNT LOCK')")),
            self._writer("drop_accounts", _BATCH, f"{self._checked()} {_LISTED};", self._run(
                "CONCAT('DROP USER ', list)")),
            self._writer("revoke_accounts", _BATCH, f"{self._checked()} {_LISTED};", (
                f"EXECUTE IMMEDIATE CONCAT('REVOKE ALL PRIVILEGES, GRANT OPTION FROM ', list); {self._grants()}")),
            self._writer("grant_accounts", _BATCH, f"{self._checked()} {_LISTED};", self._grants()),
            self._writer("end_sessions", _BATCH, self._checked(), self._kill_sessions()),
            self._writer("end_statement", "number BIGINT UNSIGNED", "", self._kill_one("QUERY_ID", "QUERY ID")),
            self._writer("end_session", "number BIGINT UNSIGNED", "", self._kill_one("ID", "CONNECTION")),
            self._reader("read_digests", "", f"{DIGESTS};"),
            self._reader("read_accounts", "", "".join(f"{question};" for question in rows("TRUE"))),
            self._reader("read_buckets", _BATCH, "".join(f"{question};" for question in rows(
                f"JSON_CONTAINS(batch, {_BUCKET})"))),
            self._reader("read_some", _BATCH, "".join(f"{question};" for question in rows(
                f"User IN (SELECT u FROM {_USERS})"))),
            self._reader("read_sessions", "", f"{SESSIONS};"),
        )  # fmt: skip

    def _version_procedure(self) -> str:
        return self._reader("read_version", "", f"SELECT '{self.version}', '{self.grant_type}', '{self.role}';")

    def _check(self) -> str:
        """Refuses what is no account of ours, before anything is built from it."""
        protected = (
            f"SELECT 1 FROM mysql.global_priv g JOIN {_USERS} ON g.User = t.u "
            # cheap words first: an account of no rights begins like this, and what does not is left to the parser
            """WHERE g.Host = '%' AND (g.Priv NOT LIKE '{"access":0,%' OR g.Priv LIKE '%"is_role"%') """
            "AND (JSON_VALUE(g.Priv, '$.access') <> 0 OR JSON_VALUE(g.Priv, '$.is_role') = 1)"
        )
        body = (
            "DECLARE bad INT DEFAULT 0; "
            "IF NOT JSON_VALID(batch) OR JSON_TYPE(batch) <> 'ARRAY' OR JSON_LENGTH(batch) = 0 "
            "THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'labstore: not a list of accounts'; END IF; "
            f"SELECT COUNT(*) INTO bad FROM {_USERS} WHERE u IS NULL OR NOT {_exactly('u', _NAME)}; "
            "IF bad THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'labstore: not an account of ours'; END IF; "
            f"IF EXISTS({protected}) "
            "THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'labstore: a role or a privileged account'; END IF; "
            "IF hashes THEN "
            f"SELECT COUNT(*) INTO bad FROM {_HASHES} "
            f"WHERE h IS NULL OR NOT {_exactly('h', '[*][0-9A-F]{40}')} OR n > 2; "
            "IF bad THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'labstore: not a password hash'; END IF; "
            "END IF; "
        )
        return self._procedure("check_accounts", f"{_BATCH}, hashes BOOLEAN", "READS SQL DATA", body)

    def _checked(self, hashes: bool = False) -> str:
        return f"CALL `{self.database}`.check_accounts(batch, {'TRUE' if hashes else 'FALSE'});"

    def _run(self, expression: str) -> str:
        return f"SET list = {expression}; EXECUTE IMMEDIATE list;"

    def _grants(self) -> str:
        if self.grant_type is GrantType.ROLE:
            default = f"GROUP_CONCAT('DEFAULT ROLE `{self.role}` FOR ''', u, '''@''%''')"
            return (
                f"EXECUTE IMMEDIATE CONCAT('GRANT `{self.role}` TO ', list); "
                f"SELECT CONCAT('SET ', {default}) INTO list FROM {_USERS}; EXECUTE IMMEDIATE list;"
            )
        each = "FOR one IN (SELECT u FROM " + _USERS + ") DO EXECUTE IMMEDIATE {}; END FOR;"
        pattern = PUBLIC_VIEWS.pattern.replace("\\", "\\\\")
        own = r"CONCAT('GRANT ALL PRIVILEGES ON `', one.u, '\\_\\_%`.* TO ''', one.u, '''@''%''')"
        public = f"EXECUTE IMMEDIATE CONCAT('GRANT SELECT, SHOW VIEW ON `{pattern}`.* TO ', list); "
        return public + each.format(own)

    def _kill_sessions(self) -> str:
        return (
            "FOR one IN (SELECT p.ID AS number FROM information_schema.PROCESSLIST p "
            f"JOIN {_USERS} ON p.USER = t.u) DO "
            "BEGIN DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; KILL CONNECTION one.number; END; END FOR;"
        )

    def _kill_one(self, column: str, what: str) -> str:
        """Only a session of one of our accounts; gone by itself (1094, 1957) is success."""
        return (
            f"IF EXISTS(SELECT 1 FROM information_schema.PROCESSLIST WHERE {column} = number "
            f"AND USER RLIKE '{OURS}') THEN "
            f"BEGIN DECLARE CONTINUE HANDLER FOR 1094, 1957 BEGIN END; KILL {what} number; SELECT 1; END; "
            "ELSE SELECT 0; END IF;"
        )

    def _writer(self, name: str, parameters: str, before: str, body: str) -> str:
        quiet = "" if self.keep_binlog else "SET SESSION sql_log_bin = 0; "
        head = f"DECLARE list LONGTEXT CHARACTER SET ascii; SET SESSION group_concat_max_len = 16777216; {quiet}"
        return self._procedure(name, parameters, "MODIFIES SQL DATA", f"{head}{before} {body}")

    def _reader(self, name: str, parameters: str, body: str) -> str:
        return self._procedure(name, parameters, "READS SQL DATA", body)

    def _procedure(self, name: str, parameters: str, kind: str, body: str) -> str:
        return (
            f"CREATE OR REPLACE DEFINER = {self.definer} PROCEDURE `{self.database}`.{name}({parameters}) "
            f"{kind} SQL SECURITY DEFINER BEGIN {body} END"
        )
