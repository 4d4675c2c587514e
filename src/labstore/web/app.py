"""The status page and its API: read-only, without JavaScript, every text escaped (tenants name their instances)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labstore import __version__
from labstore.assembly import SiteSource
from labstore.telemetry.backup import BackupMetrics, page_figures, proven_age
from labstore.telemetry.dbusers_metrics import AccountMetrics
from labstore.telemetry.metrics import ExportMetrics
from labstore.telemetry.status import listing_age
from labstore.telemetry.words import ago, plural, safe
from labstore.web.reader import NotThere, Reader, Unfit, attempt

MOST = 500
"""Generations that one answer of the API holds."""
RECENT = 8
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(
    source: SiteSource, hosts: Sequence[str] = ("*",), now: Callable[[], datetime] | None = None
) -> Starlette:
    """The application. `hosts` are the names under which it lets itself be called: a page on this machine is not for
    whoever can make a browser here look up a name."""
    reader = Reader(source, now) if now else Reader(source)
    page = Page(reader)
    routes = [
        Route("/", page.status),
        Route("/style.css", _style),
        Route("/metrics", _metrics(reader)),
        Route("/api/status", _answers(lambda _: reader.status())),
        Route("/api/exports", _answers(lambda ask: reader.exports(ask.get("cluster"), ask.get("project")))),
        Route("/api/exports/history", _answers(lambda ask: reader.history(ask.get("cluster"), _limit(ask)))),
        Route(
            "/api/exports/why",
            _answers(lambda ask: reader.why(ask.get("cluster"), ask.get("address", ""), ask.get("path", ""))),
        ),
    ]
    guards = [Middleware(SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))]
    return Starlette(routes=routes, middleware=guards)


# --- the API ---------------------------------------------------------------------------------------------------------


def _answers(answer: Callable[[Any], object]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(answer(request.query_params))
        except Unfit as error:
            return JSONResponse({"error": str(error)}, 400)
        except NotThere as error:
            return JSONResponse({"error": str(error)}, 404)
        except sqlite3.Error as error:
            return JSONResponse({"error": f"the history cannot be read: {error}"}, 503)

    return endpoint


def _limit(ask: Any) -> int:
    text = ask.get("limit", "50")
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST):
        raise Unfit(f"limit is a number from 1 to {MOST}")
    return int(text)


def _metrics(reader: Reader) -> Callable[[Request], Response]:
    """Gauges of the newest records; the daemon itself counts cycles and calls."""

    def endpoint(_request: Request) -> Response:
        exports, accounts = ExportMetrics(now=lambda: reader.now().timestamp()), AccountMetrics(build=False)
        backups = BackupMetrics(reader.now())
        kept = [room.kept for room in reader.rooms()[0]]
        views: dict[str, AccountMetrics | BackupMetrics] = {"dbusers": accounts, "backup": backups}
        for each in kept:
            (views.get(each.room) or exports).seen(each)
        text = generate_latest(exports.registry)
        for room, view in views.items():
            if any(each.room == room for each in kept):
                text += generate_latest(view.registry)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return endpoint


# --- the page --------------------------------------------------------------------------------------------------------


class Page:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        loader = PackageLoader("labstore.web")
        self._templates = Environment(
            loader=loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            finalize=lambda value: safe(value) if isinstance(value, str) else value,
        )
        self._templates.filters |= {"plural": plural, "clock": _clock}

    def status(self, request: Request) -> Response:
        address = request.query_params.get("address", "").strip()
        path = request.query_params.get("path", "").strip()
        reader, now = self._reader, self._reader.now()
        rooms, unreadable = reader.rooms()
        history, history_problem = attempt(lambda: reader.history(None, RECENT))
        exports, _ = attempt(lambda: reader.exports(None, None))
        answer, unanswered = attempt(lambda: reader.why(None, address, path)) if address else (None, None)
        text = self._templates.get_template("status.html").render(
            status=reader.status(),
            rooms=[{"room": room, "kept": room.kept, "figures": _figures(room.kept, now)} for room in rooms],
            unreadable=unreadable,
            history=history,
            exports=exports,
            changed=_changed,
            history_problem=history_problem,
            address=address,
            path=path,
            answer=answer,
            unanswered=unanswered,
            ago=lambda moment: ago((now - _moment(moment)).total_seconds()),
            now=now,
            version=__version__,
        )
        return HTMLResponse(text)


def _figures(kept: Any, now: datetime) -> list[tuple[str, str]]:
    """The figures of a room, with their names, as the page shows them."""
    facts = kept.facts
    if kept.room == "dbusers":
        return _account_figures(facts)
    if kept.room == "backup":
        return page_figures(facts, proven_age(kept, now))
    age = listing_age(kept, now)
    found = [
        ("exports", facts.get("served_exports")),
        ("clients", facts.get("served_clients")),
        ("projects", facts.get("served_projects")),
        ("instances seen", facts.get("instances")),
        ("generation", facts.get("generation")),
        ("all listed", f"{ago(age)} ago" if age is not None else None),
        ("in doubt", facts.get("held_clients")),
        ("answers missing", facts.get("missing_count")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def _changed(generation: Mapping[str, Any]) -> str:
    """What a generation changed, in a line: `maps: seen: maps-3; and 2 more`."""
    steps = [f"{step.get('owner')}: {str(step.get('why'))[:100]}" for step in generation["steps"]]
    return "; ".join(steps[:2]) + (f"; and {len(steps) - 2} more" if len(steps) > 2 else "")


def _moment(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _clock(value: datetime | str) -> str:
    return f"{_moment(value).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _style(_request: Request) -> Response:
    text = files("labstore.web").joinpath("static/style.css").read_text("utf-8")
    return Response(text, media_type="text/css")


class SafeHeaders:
    """Puts the same strict headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await self._app(scope, receive, with_headers)


def _account_figures(facts: Any) -> list[tuple[str, str]]:
    if "accounts" not in facts:
        return []
    found = [(name, str(count)) for name, count in sorted(facts["accounts"].items())]
    found.append(("on their way", str(facts["unconverged"])))
    for host, words in facts["hosts"].items():
        found.append((host, f"{words['present']} present, {words['absent']} absent" if words["answers"] else "away"))
    return found
