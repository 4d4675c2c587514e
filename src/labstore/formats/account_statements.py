"""The statements that make, change and end accounts on a replica server.

Account statements cannot bind names, so everything in them is a type with a strict grammar: there is nothing to
escape but the `_` and `%` of database patterns (upstream #51, #54). Each function gives one statement for a list of
accounts: a list costs the server one sync however long it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from labstore.model.accounts import NATIVE_PLUGIN, DbUser, Limits, NativeHash
from labstore.model.database import ALL_ON_DATABASE, DbGrant, RoleName, WantedAccount

PUBLIC_VIEWS = DbGrant(r"%\_p", frozenset({"Select", "Show_view"}))
"""The views that everybody may read: databases whose names end in `_p`."""
HOST_PART = "%"


def account(user: DbUser) -> str:
    return f"'{user}'@'{HOST_PART}'"


def accounts(users: Sequence[DbUser]) -> str:
    return ",".join(account(user) for user in users)


def own_databases(user: DbUser) -> DbGrant:
    """What an account may do with the databases that bear its name: `s12__x` is s12's and nobody else's."""
    return DbGrant(rf"{user}\_\_%", ALL_ON_DATABASE)


def legacy_grants(user: DbUser) -> frozenset[DbGrant]:
    """All grants of an account on a server of the legacy type."""
    return frozenset({PUBLIC_VIEWS, own_databases(user)})


def create(wanted: Sequence[WantedAccount]) -> str:
    """Accounts that do not exist yet, all with the same limits. Not atomic where one exists (1396): the others are."""
    return f"CREATE USER {_identified(wanted)} WITH {_limits(_same(wanted).limits)}"


def alter(wanted: Sequence[WantedAccount]) -> str:
    """Existing accounts, all with the same limits and lock; their grants stay."""
    same = _same(wanted)
    return f"ALTER USER {_identified(wanted)} WITH {_limits(same.limits)} ACCOUNT {'LOCK' if same.locked else 'UNLOCK'}"


def lock(users: Sequence[DbUser]) -> str:
    return f"ALTER USER {accounts(users)} ACCOUNT LOCK"


def drop(users: Sequence[DbUser]) -> str:
    return f"DROP USER {accounts(users)}"


def revoke(users: Sequence[DbUser]) -> str:
    """Everything that was ever granted to them, ours too: to be followed by the grants. Needs no right to grant what it
    takes away."""
    return f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {accounts(users)}"


def grant_role(role: RoleName, users: Sequence[DbUser]) -> str:
    return f"GRANT `{role}` TO {accounts(users)}"


def default_roles(role: RoleName, users: Sequence[DbUser]) -> str:
    """One default role takes one account, but one SET takes many of them."""
    return "SET " + ", ".join(f"DEFAULT ROLE `{role}` FOR {account(user)}" for user in users)


def grant_public_views(users: Sequence[DbUser]) -> str:
    return f"GRANT SELECT, SHOW VIEW ON `{PUBLIC_VIEWS.pattern}`.* TO {accounts(users)}"


def grant_own_databases(user: DbUser) -> str:
    return f"GRANT ALL PRIVILEGES ON `{own_databases(user).pattern}`.* TO {account(user)}"


def kill_sessions(user: DbUser) -> str:
    return f"KILL USER '{user}'"


def kill_statement(query_id: int) -> str:
    """End exactly this statement: the number is the statement's, so a session's next one is never hit."""
    return f"KILL QUERY ID {int(query_id)}"


def _identified(wanted: Sequence[WantedAccount]) -> str:
    return ",".join(f"{account(each.user)} IDENTIFIED VIA {_ways_in(each.verifiers)}" for each in wanted)


def _ways_in(verifiers: Sequence[NativeHash]) -> str:
    return " OR ".join(f"{NATIVE_PLUGIN} USING '{verifier}'" for verifier in verifiers)


def _limits(limits: Limits) -> str:
    return (
        f"MAX_USER_CONNECTIONS {limits.max_connections} MAX_STATEMENT_TIME {limits.statement_seconds} "
        f"MAX_QUERIES_PER_HOUR {limits.queries_per_hour}"
    )


def _same(wanted: Sequence[WantedAccount]) -> WantedAccount:
    """The first of a list whose limits and lock are all alike. Raises ValueError where they are not."""
    if not wanted or len({(each.limits, each.locked) for each in wanted}) != 1:
        raise ValueError("one statement has one set of limits")
    return wanted[0]
