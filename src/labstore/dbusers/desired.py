"""How an account shall be on each server: verifiers by its row, limits by the rules, grants by the server's type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import reduce

from labstore.formats.account_statements import legacy_grants
from labstore.model.accounts import AccountKind, DbUser, Limits
from labstore.model.database import FoundAccount, GrantType, WantedAccount
from labstore.model.dbusers_settings import DbusersSettings, LimitRule, ReplicaSettings
from labstore.model.ledger import AccountRow
from labstore.ports.replica_server import HostVerb


class Limiter:
    """The limits of every account on every server at one moment, by the rules of the site and of the ledger."""

    def __init__(self, settings: DbusersSettings, rules: Iterable[LimitRule], at: datetime) -> None:
        self._settings, self._at = settings, at
        every = [rule for rule in (*settings.limits.rules, *rules) if rule.until is None or rule.until > at]
        every.sort(key=lambda rule: (rule.weight, rule.number))
        self._general = [rule for rule in every if rule.account is None]
        self._special: dict[DbUser, list[LimitRule]] = {}
        for rule in every:
            if rule.account is not None:
                self._special.setdefault(rule.account, []).append(rule)
        self._known: dict[tuple[str, object, GrantType], Limits] = {}

    def limits(self, user: DbUser, host: ReplicaSettings) -> Limits:
        """What holds for this account on this server: general rules first, special ones over them."""
        base = self._base(user, host)
        own = self._special.get(user)
        return base if own is None else self._over(own, user, host, base)

    def rules(self, user: DbUser, host: ReplicaSettings) -> tuple[LimitRule, ...]:
        """The rules that say something here, from general to special."""
        every = [*self._general, *self._special.get(user, ())]
        return tuple(rule for rule in every if rule.applies(user, host, self._at))

    def _base(self, user: DbUser, host: ReplicaSettings) -> Limits:
        key = (user[0], host.group, host.grant_type)
        if key not in self._known:
            limits = self._settings.limits
            start = limits.legacy if host.grant_type is GrantType.LEGACY else limits.role
            self._known[key] = self._over(self._general, user, host, start)
        return self._known[key]

    def _over(self, rules: list[LimitRule], user: DbUser, host: ReplicaSettings, base: Limits) -> Limits:
        applying = (rule.limits for rule in rules if rule.applies(user, host, self._at))
        return reduce(lambda limits, partial: partial.over(limits), applying, base)


def wanted(row: AccountRow, host: ReplicaSettings, limiter: Limiter) -> WantedAccount:
    return WantedAccount(row.user, row.verifiers, limiter.limits(row.user, host))


def served(user: DbUser, host: ReplicaSettings) -> bool:
    """Whether an account of this kind is made on this server: a PAWS user has no databases of its own, and servers of
    the older type hold nothing else."""
    return user.kind is not AccountKind.PAWS or host.grant_type is GrantType.ROLE


def as_made(target: WantedAccount, host: ReplicaSettings) -> FoundAccount:
    """What will be found when the account is as wanted and has its grants."""
    role = host.grant_type is GrantType.ROLE
    return FoundAccount(
        verifiers=target.ways_in,
        limits=target.limits,
        locked=target.locked,
        default_role=str(host.role) if role else "",
        roles=frozenset({str(host.role)}) if role else frozenset(),
        grants=frozenset() if role else legacy_grants(target.user),
    )


def drift(found: FoundAccount | None, target: WantedAccount, host: ReplicaSettings) -> Iterator[tuple[HostVerb, str]]:
    """What has to be done to make what was found into what is wanted, with the reason."""
    if found is None:
        yield HostVerb.CREATE, "absent there"
        yield HostVerb.GRANT, "new there"
        return
    differing = [
        word
        for word, differs in (
            ("password", found.verifiers != target.ways_in),
            ("limits", found.limits != target.limits),
            ("locked", found.locked != target.locked),
        )
        if differs
    ]
    if differing:
        yield HostVerb.ALTER, f"{' and '.join(differing)} differ there"
    if not granted(found, target.user, host):
        yield HostVerb.GRANT, "rights are missing there"


def granted(found: FoundAccount, user: DbUser, host: ReplicaSettings) -> bool:
    """Whether the account has at least the rights that this server's type gives it."""
    if host.grant_type is GrantType.ROLE:
        return str(host.role) in found.roles and found.default_role == host.role
    have = {grant.pattern: grant.privileges for grant in found.grants}
    return all(grant.privileges <= have.get(grant.pattern, frozenset()) for grant in legacy_grants(user))


def surplus(found: FoundAccount, user: DbUser, host: ReplicaSettings) -> tuple[str, ...]:
    """Rights beyond those that this server's type gives: taken away only where the site says so."""
    role = host.grant_type is GrantType.ROLE
    ours = frozenset() if role else legacy_grants(user)
    roles = found.roles - ({str(host.role)} if role else set())
    have = {grant.pattern: grant.privileges for grant in ours}
    more = [grant.pattern for grant in found.grants if grant.privileges - have.get(grant.pattern, frozenset())]
    return (*(f"role {name}" for name in sorted(roles)), *(f"on {pattern}" for pattern in sorted(more)), *found.surplus)
