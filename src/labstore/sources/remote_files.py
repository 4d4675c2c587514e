"""Credential files on another machine, through the service there; and the one writer for all kinds, near and far."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.dbusers_settings import RemoteFilesSettings
from labstore.model.secret import Secret
from labstore.ports.clock import Clock
from labstore.ports.credential_writer import CredentialWriter, FileFact, FileOwner, FileState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import FileRefused
from labstore.reports.sources import SourceFailed

AT_ONCE = 2000
"""Accounts in one question."""
ANSWER_LIMIT = 16 << 20
PARALLEL = 4
Words = Mapping[str, Any]


class Unanswered(Exception):
    """The service did not answer as it should; the message says how."""


@dataclass
class RemoteFiles:
    """See ports.credential_writer.CredentialWriter. For several threads: each has a connection of its own."""

    settings: RemoteFilesSettings
    clock: Clock
    _mine: threading.local = field(default_factory=threading.local, init=False)

    # --- looking ----------------------------------------------------------------------------------------------------

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        parts = [owners[start : start + AT_ONCE] for start in range(0, len(owners), AT_ONCE)]
        found: dict[DbUser, Answer[FileFact]] = {}
        with ThreadPoolExecutor(min(PARALLEL, len(parts) or 1), "files") as pool:
            for answers in pool.map(self._inspected, parts):
                found |= answers
        return found

    def _inspected(self, owners: Sequence[FileOwner]) -> dict[DbUser, Answer[FileFact]]:
        try:
            files = self._ask("inspect-replica-cnfs", {"accounts": [_owner_words(owner) for owner in owners]})["files"]
            return {owner.user: self._fact(owner, files[str(owner.user)]) for owner in owners}
        except Unanswered as error:
            reason = str(error)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"its answer is none: {error}"
        missing = self._missing("credential files", reason)
        return {owner.user: missing for owner in owners}

    def _fact(self, owner: FileOwner, words: Words) -> Answer[FileFact]:
        if "missing" in words:
            return self._missing(f"the file of {owner.user}", str(words["missing"]))
        verifier = NativeHash(words["verifier"]) if words["verifier"] else None
        fact = FileFact(FileState(words["state"]), verifier, str(words["why"]))
        return Fact(fact, self.settings.url, self.clock.now())

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        try:
            found = self._ask("paws-uids", None)["paws_uids"]
            return Fact(tuple(sorted(map(str, found))), self.settings.url, self.clock.now())
        except (Unanswered, KeyError, TypeError) as error:
            return self._missing("the PAWS homes", str(error))

    # --- changing ---------------------------------------------------------------------------------------------------

    def publish(self, owner: FileOwner, password: Secret) -> None:
        self._told(owner, "write-replica-cnf", {"password": password.reveal(), "dry_run": False})

    def replace(self, owner: FileOwner, password: Secret) -> None:
        self._told(owner, "replace-replica-cnf", {"password": password.reveal()})

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        self._told(owner, "protect-replica-cnf", {"verifier": str(verifier)})

    def withdraw(self, owner: FileOwner) -> None:
        self._told(owner, "delete-replica-cnf", {"dry_run": False})

    def _told(self, owner: FileOwner, what: str, more: Words) -> None:
        try:
            self._ask(what, {**_owner_words(owner), **more})
        except Unanswered as error:
            raise StepFailed(FileRefused(str(owner.user), str(error))) from None

    # --- the exchange -----------------------------------------------------------------------------------------------

    def _ask(self, what: str, words: Words | None) -> Words:
        """The detail of an answer that says ok. Asked once more where an idle connection was found closed: every
        request may be repeated. Raises Unanswered."""
        try:
            try:
                return self._exchanged(what, words)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._let_go()
                return self._exchanged(what, words)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._let_go()
            raise Unanswered(f"{self.settings.url} does not answer: {str(error) or type(error).__name__}") from None

    def _exchanged(self, what: str, words: Words | None) -> Words:
        connection = self._connection()
        path = f"{urlsplit(self.settings.url).path.rstrip('/')}/{what}"
        body = None if words is None else json.dumps(words).encode()
        headers = {"authorization": self._proof(), "content-type": "application/json", "accept": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        reply = connection.getresponse()
        content = reply.read(ANSWER_LIMIT + 1)
        if len(content) > ANSWER_LIMIT:
            raise ValueError("its answer is too long")
        return _detail(reply.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if known is None:
            s, at = self.settings, urlsplit(self.settings.url)
            assert at.hostname is not None
            if at.scheme == "https":
                context = ssl.create_default_context(cafile=str(s.ca_file) if s.ca_file else None)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                known = http.client.HTTPSConnection(at.hostname, at.port or 443, timeout=s.deadline, context=context)
            else:
                known = http.client.HTTPConnection(at.hostname, at.port or 80, timeout=s.deadline)
            self._mine.connection = known
        return known

    def _let_go(self) -> None:
        known = getattr(self._mine, "connection", None)
        if known is not None:
            known.close()
        self._mine.connection = None

    def _proof(self) -> str:
        text = f"{self.settings.user}:{self.settings.password.reveal()}".encode()
        return "Basic " + base64.b64encode(text).decode()

    def _missing(self, what: str, reason: str) -> Missing:
        return Missing(SourceFailed(self.settings.url, what, reason), self.settings.url, self.clock.now())


def _owner_words(owner: FileOwner) -> Words:
    return {
        "account_id": str(owner.name),
        "account_type": owner.kind.value,
        "uid": owner.uid,
        "mysql_username": str(owner.user),
    }


def _detail(status: int, content: bytes) -> Words:
    """What an answer says. Raises Unanswered."""
    try:
        words = json.loads(content)
        result, detail = words["result"], words["detail"]
    except (ValueError, KeyError, TypeError):
        raise Unanswered(f"HTTP status {status}, and no answer in JSON") from None
    if result == "ok" and isinstance(detail, dict):
        return detail
    reason = detail.get("reason") if isinstance(detail, dict) else None
    raise Unanswered(str(reason or "refused without a reason")[:500])


@dataclass
class FilesByKind:
    """The homes of some kinds here, of others elsewhere, as one writer."""

    here: CredentialWriter
    elsewhere: Mapping[AccountKind, CredentialWriter]

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        by_writer: dict[int, tuple[CredentialWriter, list[FileOwner]]] = {}
        for owner in owners:
            writer = self._of(owner.kind)
            by_writer.setdefault(id(writer), (writer, []))[1].append(owner)
        found: dict[DbUser, Answer[FileFact]] = {}
        for writer, mine in by_writer.values():
            found |= writer.inspect(mine)
        return found

    def publish(self, owner: FileOwner, password: Secret) -> None:
        self._of(owner.kind).publish(owner, password)

    def replace(self, owner: FileOwner, password: Secret) -> None:
        self._of(owner.kind).replace(owner, password)

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        self._of(owner.kind).protect(owner, verifier)

    def withdraw(self, owner: FileOwner) -> None:
        self._of(owner.kind).withdraw(owner)

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        return self._of(AccountKind.PAWS).paws_ids()

    def _of(self, kind: AccountKind) -> CredentialWriter:
        return self.elsewhere.get(kind, self.here)
