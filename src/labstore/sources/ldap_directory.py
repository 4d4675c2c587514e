"""Tools and users from LDAP: whole listings or Missing, from every configured server, over verified TLS."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ldap
import ldap.dn
import ldap.filter
from ldap.controls.libldap import SimplePagedResultsControl
from ldap.ldapobject import SimpleLDAPObject
from ldap.syncrepl import SyncreplConsumer

from labstore.formats.ldap_entries import ATTRIBUTES, RawEntry, Taken, merged, taken
from labstore.model.accounts import AccountKind, UidRange
from labstore.model.dbusers_settings import LdapSettings, Tls
from labstore.model.names import shown
from labstore.model.people import Listing, Rejected
from labstore.ports.clock import Clock
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.log import Logger

log = Logger()
KINDS = (AccountKind.TOOL, AccountKind.USER)
RETRY = 10.0
"""Seconds before the doorbell is hung up anew after its connection broke."""
Dn = tuple[tuple[tuple[str, str], ...], ...]


class Incomplete(Exception):
    """A server's answer is not the whole; the message says why."""


@dataclass(frozen=True)
class LdapDirectory:
    """See ports.directory.Directory.

    Every server is asked for everything. New accounts need the word of one; absence counts only where all of them
    answered and none has the entry (one may be behind).
    """

    settings: LdapSettings
    uids: UidRange
    clock: Clock

    def listing(self) -> Mapping[AccountKind, Answer[Listing]]:
        with ThreadPoolExecutor(len(self.settings.servers), "ldap") as pool:
            answers = list(pool.map(self._server, self.settings.servers))
        return {kind: self._joined(kind, [answer[kind] for answer in answers]) for kind in KINDS}

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        if not self.settings.doorbell:
            return lambda: None
        bell = _Doorbell(self, ring)
        bell.start()
        return bell.end

    def _joined(self, kind: AccountKind, answers: Sequence[Answer[Taken]]) -> Answer[Listing]:
        facts = [answer for answer in answers if isinstance(answer, Fact)]
        silent = [answer for answer in answers if isinstance(answer, Missing)]
        if not facts:
            return silent[0]
        joined = merged([fact.value for fact in facts])
        doubt = "; ".join((*(answer.report.message() for answer in silent[:1]), *_behind(facts)))
        servers = tuple(fact.source for fact in facts)
        listing = Listing(kind, joined.entries, joined.rejected, not doubt, servers, doubt)
        return Fact(listing, ", ".join(servers), facts[0].at)

    # --- one server -------------------------------------------------------------------------------------------------

    def _server(self, url: str) -> Mapping[AccountKind, Answer[Taken]]:
        """Each kind by itself: a group that cannot be read does not hold the tools up."""
        ends = time.monotonic() + self.settings.deadline
        try:
            with self.connection(url) as connection:
                return {
                    AccountKind.TOOL: self._kind(url, "the tools", lambda: self._tools(connection, ends)),
                    AccountKind.USER: self._kind(url, "the users", lambda: self._users(connection, ends)),
                }
        except ldap.LDAPError as error:
            return dict.fromkeys(KINDS, self._missing(url, "its listing", _words(error)))

    def _kind(self, url: str, what: str, ask: Callable[[], Taken]) -> Answer[Taken]:
        try:
            return Fact(ask(), url, self.clock.now())
        except ldap.LDAPError as error:
            return self._missing(url, what, _words(error))
        except Incomplete as error:
            return self._missing(url, what, str(error))

    def _tools(self, connection: Any, ends: float) -> Taken:
        pattern = ldap.filter.filter_format("(cn=%s.*)", [self.settings.project])
        raw = self._search(connection, self.settings.tools_base, ldap.SCOPE_SUBTREE, pattern, ATTRIBUTES, ends)
        return taken(AccountKind.TOOL, raw, self.uids, self._disabled)

    def _users(self, connection: Any, ends: float) -> Taken:
        """The members of the group among all people: two listings instead of a question per member."""
        group = list(
            self._search(connection, self.settings.group, ldap.SCOPE_BASE, "(objectClass=*)", ["member"], ends)
        )
        if len(group) != 1:
            raise Incomplete(f"{len(group)} entries are the group")
        members = {_key(value.decode("utf-8", "replace")): value for value in group[0][1].get("member", ())}
        outside = [value for key, value in members.items() if not _below(key, _key(self.settings.people_base))]
        people = self._search(connection, self.settings.people_base, ldap.SCOPE_SUBTREE, "(uid=*)", ATTRIBUTES, ends)
        found = taken(
            AccountKind.USER, (each for each in people if _key(each[0]) in members), self.uids, self._disabled
        )
        strangers = tuple(
            Rejected(shown(value.decode("utf-8", "replace"), 80), "a member that is not among the people")
            for value in outside
        )
        return Taken(found.entries, found.rejected + strangers)

    def _search(
        self, connection: Any, base: str, scope: int, pattern: str, attributes: Sequence[str], ends: float
    ) -> Iterator[RawEntry]:
        """Page by page to the end. Raises Incomplete, LDAPError; what was yielded before is worth nothing then."""
        control = SimplePagedResultsControl(True, size=self.settings.page, cookie=b"")
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise Incomplete(f"not at its end after {self.settings.deadline:g} s")
            number = connection.search_ext(
                base, scope, pattern, list(attributes), serverctrls=[control], timeout=max(1, int(left))
            )
            _, data, _, controls = connection.result3(number, timeout=left)
            for dn, found in data:
                if dn is None:
                    raise Incomplete("a part of it is on another server")
                yield dn, found
            pages = [each for each in controls if each.controlType == SimplePagedResultsControl.controlType]
            if not pages:
                raise Incomplete("it does not say whether there are more pages")
            if not pages[0].cookie:
                return
            control.cookie = pages[0].cookie

    def _disabled(self, policy: str) -> bool:
        key = _key(policy)
        return key in {_key(each) for each in self.settings.disabled_policies} or (
            bool(key) and ("cn", "disabled") in key[0]
        )

    @contextmanager
    def connection(self, url: str, kind: type[SimpleLDAPObject] = SimpleLDAPObject) -> Iterator[Any]:
        """A bound connection. Raises LDAPError."""
        s = self.settings
        connection = kind(url)
        connection.protocol_version = ldap.VERSION3
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, s.connect_deadline)
        connection.set_option(ldap.OPT_TIMEOUT, s.deadline)
        try:
            if s.tls is Tls.VERIFY and not url.startswith("ldapi:"):
                connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
                if s.ca_file is not None:
                    connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(s.ca_file))
                connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
                if url.startswith("ldap:"):
                    connection.start_tls_s()
            if s.bind_dn:
                connection.simple_bind_s(s.bind_dn, s.password.reveal())
            yield connection
        finally:
            with contextlib.suppress(ldap.LDAPError):
                connection.unbind_s()

    def _missing(self, url: str, what: str, reason: str) -> Missing:
        return Missing(SourceFailed(url, what, reason), url, self.clock.now())


class _Bell(SyncreplConsumer, SimpleLDAPObject):  # type: ignore[misc]
    """Listens for changes (RFC 4533). Nothing of what it is told is believed, but that there is something."""

    ring: Callable[[], None]
    refreshed = False

    def syncrepl_get_cookie(self) -> None:
        return None

    def syncrepl_set_cookie(self, cookie: str) -> None:
        """Nothing is kept: every connection begins with a refresh."""

    def syncrepl_entry(self, dn: str, attributes: object, uuid: str) -> None:  # noqa: ARG002
        self._changed()

    def syncrepl_delete(self, uuids: Sequence[str]) -> None:  # noqa: ARG002
        self._changed()

    def syncrepl_present(self, uuids: Sequence[str] | None, refreshDeletes: bool = False) -> None:  # noqa: N803
        """Part of a refresh."""

    def syncrepl_refreshdone(self) -> None:
        self.refreshed = True

    def _changed(self) -> None:
        if self.refreshed:
            self.ring()


class _Doorbell:
    def __init__(self, directory: LdapDirectory, ring: Callable[[], None]) -> None:
        self._directory, self._ring = directory, ring
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ldap-doorbell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def _run(self) -> None:
        servers = self._directory.settings.servers
        turn = 0
        while not self._ended.is_set():
            url = servers[turn % len(servers)]
            try:
                self._listen(url)
            except ldap.LDAPError as error:
                log.info("doorbell broken", server=url, reason=_words(error))
            turn += 1
            self._ended.wait(RETRY)

    def _listen(self, url: str) -> None:
        settings = self._directory.settings
        with self._directory.connection(url, _Bell) as bell:
            bell.ring = self._ring
            searches = [
                bell.syncrepl_search(
                    base, ldap.SCOPE_SUBTREE, mode="refreshAndPersist", filterstr="(objectClass=*)", attrlist=["1.1"]
                )
                for base in (settings.tools_base, settings.group)
            ]
            while not self._ended.is_set():
                for number in searches:
                    with contextlib.suppress(ldap.TIMEOUT):
                        bell.syncrepl_poll(msgid=number, timeout=0.5)


def _key(dn: str) -> Dn:
    """A DN so that equal ones are equal: types and values without case, blanks as one. Empty for what is none."""
    try:
        parts = ldap.dn.str2dn(dn)
    except ldap.DECODING_ERROR:
        return ()
    return tuple(tuple((name.lower(), " ".join(value.lower().split())) for name, value, _ in rdn) for rdn in parts)


def _below(key: Dn, base: Dn) -> bool:
    return len(key) > len(base) and key[-len(base) :] == base


def _behind(facts: Sequence[Fact[Taken]]) -> Iterator[str]:
    """Which servers lack what another one has: replication takes its time, or has stopped."""
    every = {user for fact in facts for user in fact.value.entries}
    for fact in facts:
        lacking = len(every) - len(fact.value.entries)
        if lacking:
            yield f"{fact.source} lacks {lacking} of {len(every)} entries"


def _words(error: ldap.LDAPError) -> str:
    """The library's error without its dictionary."""
    found = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    words = [str(found[name]) for name in ("desc", "info") if found.get(name)]
    return ": ".join(words) or type(error).__name__
