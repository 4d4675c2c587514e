"""What MariaDB's grant tables say about an account, normalised so that equal states are equal values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from labstore.model.accounts import Limits
from labstore.model.database import DbGrant, FoundAccount, Verifier

PRIVILEGES = (
    "Select", "Insert", "Update", "Delete", "Create", "Drop", "Grant", "References", "Index", "Alter",
    "Create_tmp_table", "Lock_tables", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Execute",
    "Event", "Trigger", "Delete_history",
)  # fmt: skip
"""The privilege columns of mysql.db, without their `_priv`, in the order in which we ask for them."""


class UnreadableGrant(ValueError):
    """A row of the grant tables that is not what MariaDB writes."""


UNREADABLE = FoundAccount(verifiers=frozenset(), limits=Limits(), touchable=False)
"""An account of whose row nothing can be said but that it is there."""


def account(
    priv: str, roles: Iterable[str] = (), grants: Iterable[DbGrant] = (), surplus: Iterable[str] = ()
) -> FoundAccount:
    """The account in a row of mysql.global_priv. Raises UnreadableGrant."""
    try:
        value = json.loads(priv)
    except ValueError:
        raise UnreadableGrant("global_priv holds what is not JSON") from None
    if not isinstance(value, dict):
        raise UnreadableGrant("global_priv holds JSON that is no object")
    return FoundAccount(
        verifiers=_verifiers(value),
        limits=Limits(
            _whole(value, "max_user_connections"), _whole(value, "max_statement_time"), _whole(value, "max_questions")
        ),
        locked=value.get("account_locked") is True,
        default_role=str(value.get("default_role", "")),
        roles=frozenset(roles),
        grants=frozenset(grants),
        surplus=tuple(sorted(surplus)),
        touchable=value.get("access") == 0 and not value.get("is_role", False),
    )


def db_grant(pattern: str, flags: str) -> DbGrant:
    """A row of mysql.db: the pattern and one `Y` or `N` per privilege in the order of PRIVILEGES."""
    if len(flags) != len(PRIVILEGES):
        raise UnreadableGrant(f"mysql.db has {len(flags)} privileges; {len(PRIVILEGES)} are known")
    return DbGrant(pattern, frozenset(name for name, flag in zip(PRIVILEGES, flags, strict=True) if flag == "Y"))


def _verifiers(value: Mapping[str, Any]) -> frozenset[Verifier]:
    """All ways in. With alternatives, `auth_or` lists them and an empty object stands for the top level's own; a
    single verifier set later leaves `auth_or: [{}]` behind, which says nothing."""
    alternatives = value.get("auth_or")
    if not isinstance(alternatives, list) or not alternatives:
        return frozenset({_verifier(value)})
    return frozenset(_verifier(each or value) for each in alternatives if isinstance(each, dict))


def _verifier(value: Mapping[str, Any]) -> Verifier:
    """Hashes are compared without regard to case: the server keeps the case it was given."""
    text = str(value.get("authentication_string", ""))
    plugin = str(value.get("plugin", ""))
    return Verifier(plugin, text.upper() if text.startswith("*") else text)


def _whole(value: Mapping[str, Any], name: str) -> int:
    """A limit as a whole number, whichever an administrator set; a fraction of a second is rounded away from 0, so that
    it is never taken for no limit."""
    found = value.get(name, 0)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UnreadableGrant(f"global_priv holds a {name} that is no number")
    if isinstance(found, float) and not math.isfinite(found):
        raise UnreadableGrant(f"global_priv holds a {name} without end")
    return math.ceil(found) if found > 0 else math.floor(found)
