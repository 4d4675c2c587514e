"""The credential file service: v1 of the original's interface, and what labstore's own daemon asks beside it.

It runs as root on the node that has the homes. Whoever asks says accounts, never paths; who may ask proves it with a
password over TLS. Nothing is believed of a request: a name, a number and an account have to belong together.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from labstore.assembly_dbusers import AccountsRoom
from labstore.formats import replica_cnf as v1
from labstore.formats.replica_cnf import BadRequest, FileRequest
from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.dbusers_settings import DbusersSettings, WriterSettings
from labstore.ports.credential_writer import CredentialWriter, FileFact, FileOwner, FileState
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.runner import StepFailed
from labstore.reports.in_file import BadFile, Origin
from labstore.reports.sources import SourceFailed
from labstore.system.credential_files import FILE_NAMES, CredentialFiles
from labstore.system.homes import home_uid
from labstore.system.log import Logger

log = Logger()
NAME = "labstore-dbusers-writer"
MOST_AT_ONCE = 5000
"""Accounts that one request may ask about."""
CONCURRENCY = 64
Words = Mapping[str, Any]


@dataclass
class Service:
    """`settings` gives the site as it is now; `standby` says why this node does not write, None where it does."""

    settings: Callable[[], DbusersSettings]
    writer: CredentialWriter
    standby: Callable[[], str | None]

    # --- the original's interface -----------------------------------------------------------------------------------

    def write(self, words: Words) -> Words:
        request = v1.write_request(words, self.settings().uids)
        assert request.user is not None
        owner = FileOwner(request.kind, request.name, request.uid, request.user)
        where = self._where(owner)
        if request.dry_run:
            return v1.ok(replica_path=where)
        fact = self._look(owner)
        if fact.state is FileState.NO_HOME:
            return v1.skip("the home does not exist yet")
        if fact.state is not FileState.ABSENT:
            return self._there(owner, fact, NativeHash.of(request.password))
        self.writer.publish(owner, request.password)
        return v1.ok(replica_path=where, results={"labstore": f"OK (user={owner.name}, db_user={owner.user})"})

    def _there(self, owner: FileOwner, fact: FileFact, verifier: NativeHash) -> Words:
        """A reply may have been lost: the same file again is success."""
        if fact.verifier != verifier:
            return v1.skip(f"something stands at the name of the file: {fact.why or fact.state.value}")
        if fact.state is FileState.BARE:
            self.writer.protect(owner, verifier)
        return v1.ok(replica_path=self._where(owner), results={"labstore": "OK (it was there)"})

    def read(self, words: Words) -> Words:
        request = v1.file_request(words)
        if request.dry_run:
            return v1.ok(user=v1.DRY_RUN_USER, password=NativeHash.of(v1.DRY_RUN_PASSWORD).stored)
        owner = self._owner(words, request)
        fact = self._look(owner)
        if fact.verifier is None:
            return v1.error(f"{self._where(owner)}: {fact.why or fact.state.value}")
        return v1.ok(user=str(owner.user), password=fact.verifier.stored, state=fact.state.value)

    def delete(self, words: Words) -> Words:
        request = v1.file_request(words)
        if request.dry_run:
            return v1.ok(replica_path=f"{request.kind.value} {request.name}")
        owner = self._owner(words, request)
        self.writer.withdraw(owner)
        return v1.ok(replica_path=self._where(owner), results={"labstore": "OK"})

    def paws(self, _words: Words) -> Words:
        answer = self.writer.paws_ids()
        if not isinstance(answer, Fact):
            return v1.error(answer.report.message())
        return v1.ok(paws_uids=list(answer.value))

    # --- beside it --------------------------------------------------------------------------------------------------

    def inspect(self, words: Words) -> Words:
        """Many files at once, each as it is found."""
        asked = words.get("accounts")
        if not isinstance(asked, list) or len(asked) > MOST_AT_ONCE:
            raise BadRequest(f"accounts is no list of at most {MOST_AT_ONCE}", 400)
        found = self.writer.inspect([self._named(each) for each in asked if isinstance(each, dict)])
        return v1.ok(files={str(user): _fact_words(answer) for user, answer in found.items()})

    def replace(self, words: Words) -> Words:
        request = v1.write_request(words, self.settings().uids)
        assert request.user is not None
        self.writer.replace(FileOwner(request.kind, request.name, request.uid, request.user), request.password)
        return v1.ok()

    def protect(self, words: Words) -> Words:
        try:
            verifier = NativeHash(str(words.get("verifier")))
        except ValueError as error:
            raise BadRequest(str(error), 400) from None
        self.writer.protect(self._named(words), verifier)
        return v1.ok()

    # --- whose ------------------------------------------------------------------------------------------------------

    def _named(self, words: Words) -> FileOwner:
        request = v1.owner_request(words, self.settings().uids)
        assert request.user is not None
        return FileOwner(request.kind, request.name, request.uid, request.user)

    def _owner(self, words: Words, request: FileRequest) -> FileOwner:
        """Who is meant; the original's callers name the account alone, and the home says the rest."""
        if v1.named_owner(words):
            return self._named(words)
        settings = self.settings()
        if request.kind is AccountKind.PAWS:
            owner = settings.files.paws_owner
            return FileOwner(request.kind, request.name, owner, DbUser.of(request.kind, int(request.name)))
        try:
            uid = home_uid(settings.files.bases, request.kind, request.name)
        except OSError as error:
            raise BadRequest(f"the homes cannot be looked at: {error.strerror or error}") from None
        if uid is None:
            raise BadRequest(f"{request.name} has no home")
        try:
            return FileOwner(request.kind, request.name, settings.uids.check(uid), DbUser.of(request.kind, uid))
        except ValueError as error:
            raise BadRequest(f"the home of {request.name}: {error}") from None

    def _look(self, owner: FileOwner) -> FileFact:
        answer = self.writer.inspect([owner])[owner.user]
        if not isinstance(answer, Fact):
            raise BadRequest(answer.report.message())
        return answer.value

    def _where(self, owner: FileOwner) -> str:
        """For the answer only, as the original's had it."""
        base = self.settings().files.bases.get(owner.kind)
        name = owner.name.partition(".")[2] if owner.kind is AccountKind.TOOL else owner.name
        return f"{base}/{name}/{FILE_NAMES[owner.kind]}"


def _fact_words(answer: Answer[FileFact]) -> Words:
    if not isinstance(answer, Fact):
        # the asker says itself whom and what it asked
        report = answer.report
        return {"missing": report.reason if isinstance(report, SourceFailed) else report.message()}
    fact = answer.value
    return {"state": fact.state.value, "verifier": fact.verifier, "why": fact.why}


# --- over HTTP -------------------------------------------------------------------------------------------------------


def application(service: Service) -> Starlette:
    """The service behind its password."""
    return Starlette(
        routes=[
            Route("/v1/write-replica-cnf", _endpoint(service, service.write), methods=["POST"]),
            Route("/v1/read-replica-cnf", _endpoint(service, service.read), methods=["POST"]),
            Route("/v1/delete-replica-cnf", _endpoint(service, service.delete), methods=["POST"]),
            Route("/v1/paws-uids", _endpoint(service, service.paws, body=False), methods=["GET"]),
            Route("/v1/inspect-replica-cnfs", _endpoint(service, service.inspect), methods=["POST"]),
            Route("/v1/replace-replica-cnf", _endpoint(service, service.replace), methods=["POST"]),
            Route("/v1/protect-replica-cnf", _endpoint(service, service.protect), methods=["POST"]),
        ]
    )


def _endpoint(service: Service, act: Callable[[Words], Words], body: bool = True) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        settings = service.settings().writer
        if settings is None or not allowed(request.headers.get("authorization", ""), settings):
            said = JSONResponse(v1.error("who asks is not known"), 401)
            said.headers["www-authenticate"] = 'Basic realm="labstore"'
            return said
        try:
            words = v1.decode(await _limited(request)) if body else {}
            status, answer = await run_in_threadpool(_answered, service, act, words)
        except BadRequest as error:
            status, answer = error.status, v1.error(str(error))
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse(answer, status)

    return endpoint


def _answered(service: Service, act: Callable[[Words], Words], words: Words) -> tuple[int, Words]:
    """In a thread: files wait for the disk."""
    standby = service.standby()
    if standby is not None:
        return 503, v1.error(standby)
    try:
        answer = act(words)
    except StepFailed as failure:
        return 500, v1.error(failure.report.message())
    return (500 if answer["result"] == "error" else 200), answer


async def _limited(request: Request) -> bytes:
    """The body, however long it claims to be. Raises BadRequest."""
    taken = bytearray()
    async for piece in request.stream():
        taken += piece
        if len(taken) > v1.BODY_LIMIT:
            raise BadRequest(f"more than {v1.BODY_LIMIT} bytes", 413)
    return bytes(taken)


def allowed(header: str, settings: WriterSettings) -> bool:
    """Whether a request's Authorization header proves that its sender may ask."""
    scheme, _, given = header.partition(" ")
    try:
        text = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    wanted = f"{settings.user}:{settings.password.reveal()}".encode()
    return scheme.lower() == "basic" and bool(settings.password) and hmac.compare_digest(text, wanted)


def service_of(room: AccountsRoom) -> Service:
    """The service on this machine's homes."""
    node = room.hands.node(room.clock)

    def standby() -> str | None:
        answer = node.holds(room.settings.service_addresses)
        if not isinstance(answer, Fact):
            return answer.report.message()
        return None if answer.value else "standby: another node serves"

    return Service(lambda: room.settings, CredentialFiles(room.settings.files, room.clock), standby)


def serve(room: AccountsRoom) -> None:
    """Answer until told to stop. Raises BadFile where the site wants no such service."""
    settings = room.settings.writer
    if settings is None:
        advice = "write `writer: {certificate: ..., password_file: ...}` below dbusers:"
        raise BadFile([Origin("site file").problem("no service for credential files is wanted here", advice)])
    log.info("ready", listen=f"{settings.host}:{settings.port}", encrypted=settings.certificate is not None)
    uvicorn.run(
        application(service_of(room)),
        host=settings.host,
        port=settings.port,
        ssl_certfile=str(settings.certificate) if settings.certificate else None,
        ssl_keyfile=str(settings.key) if settings.key else None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONCURRENCY,
        timeout_keep_alive=30,
    )
