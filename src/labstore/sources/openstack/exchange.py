"""One request to the cloud: within a deadline, bounded in size, counted, asked again only where that is polite."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3
import yaml
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.exceptions import ClientException
from keystoneauth1.session import Session
from openstack.exceptions import SDKException
from requests.adapters import HTTPAdapter

from labstore.formats.json_api import Unreadable, document
from labstore.model.names import shown
from labstore.ports.clock import Clock
from labstore.sources.openstack.trouble import Refused, Trouble

CONNECT = 5.0
"""Seconds for a connection to come about."""
BODY_LIMIT = 64 << 20
"""Bytes of one answer: 1,000 servers with all the metadata Nova lets them have."""
PAUSES = (0.5, 1.5)
"""Seconds before a GET that met 429 or 503 is repeated, where the server names no time."""
RETRY_AFTER_CAP = 10.0
"""A server that asks for a longer pause than this many seconds is not asked again in the same look."""
VERSION_HEADER = "OpenStack-API-Version"

_BY_STATUS = {
    401: Trouble.UNAUTHORIZED,
    403: Trouble.FORBIDDEN,
    404: Trouble.NOT_FOUND,
    429: Trouble.BUSY,
    503: Trouble.BUSY,
}


@dataclass
class Meter:
    """What was asked and what came, over all threads."""

    requests: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, size: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes += size


@dataclass(frozen=True)
class Answered:
    """A good answer. `received` is the monotonic time at which it was complete."""

    body: bytes
    headers: Mapping[str, str]
    received: float


class BoundedAdapter(HTTPAdapter):
    """Takes each answer whole, within the time given for the whole exchange and within BODY_LIMIT.

    requests by itself bounds only the wait for the next byte: a server that sends one byte a second would be listened
    to for ever. A `timeout` is (seconds to connect, seconds for everything).

    A 401 to a request that had no token to show becomes a failed connection: keystoneauth would ask again with a token,
    and while it is logging in that waits for its own lock, for ever (seen with 5.18 where discovery answers 401).
    """

    def __init__(self, meter: Meter, clock: Clock, pool: int) -> None:
        super().__init__(pool_connections=pool, pool_maxsize=pool)
        self._meter, self._clock = meter, clock

    def send(self, request: requests.PreparedRequest, *_: Any, **how: Any) -> requests.Response:
        connect, whole = _seconds(how.get("timeout"))
        ends = self._clock.monotonic() + whole
        request.headers["Accept-Encoding"] = "identity"  # so that Content-Length is what will be counted
        response = super().send(request, **{**how, "stream": True, "timeout": (connect, whole)})
        raw: urllib3.HTTPResponse = response.raw
        try:
            body = self._whole(raw, ends)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ConnectionError(f"the answer was cut short ({error})") from error
        finally:
            raw.close()
        self._meter.count(len(body))
        if response.status_code == 401 and request.method == "GET" and "X-Auth-Token" not in request.headers:
            raise requests.exceptions.ConnectionError("HTTP 401 before there was a login")
        response.raw = io.BytesIO(body)
        return response

    def _whole(self, raw: urllib3.HTTPResponse, ends: float) -> bytes:
        body = bytearray()
        while chunk := raw.read1(1 << 20):
            body += chunk
            if len(body) > BODY_LIMIT:
                raise requests.exceptions.ContentDecodingError(f"the answer has more than {BODY_LIMIT} bytes")
            if self._clock.monotonic() > ends:
                raise requests.exceptions.ReadTimeout("the answer was not whole in time")
        return bytes(body)


def _seconds(timeout: Any) -> tuple[float, float]:
    whole = timeout[1] if isinstance(timeout, tuple) else timeout
    whole = 60.0 if whole is None else float(whole)
    return min(CONNECT, whole), whole


class Exchange:
    """Asks and judges. `call_deadline` bounds one request, in seconds; what is asked may bound it further."""

    def __init__(self, clock: Clock, call_deadline: float, pause: Callable[[float], None]) -> None:
        self._clock, self._call_deadline, self._pause = clock, call_deadline, pause

    def get(self, session: Session, url: str, token: str, until: float, version: str | None = None) -> Answered:
        """The answer to a GET; `until` is monotonic, `version` the compute microversion that must be used.

        Raises Refused. 429 and 503 are asked again a few times while there is time.
        """
        headers = {"X-Auth-Token": token, **({VERSION_HEADER: f"compute {version}"} if version else {})}
        for pause in (*PAUSES, None):
            response = self._send(session, "GET", url, until, headers=headers)
            wait = _wait(response, pause)
            if wait is None or self._clock.monotonic() + wait >= until:
                break
            self._pause(wait)
        _refuse_other_version(response, version)
        _refuse_failure(response)
        return Answered(response.content, response.headers, self._clock.monotonic())

    def post(self, session: Session, url: str, token: str, until: float, body: object) -> requests.Response:
        """The answer to a POST, asked once. Raises Refused."""
        response = self._send(session, "POST", url, until, headers={"X-Auth-Token": token}, json=body)
        _refuse_failure(response)
        return response

    def _send(self, session: Session, method: str, url: str, until: float, **how: Any) -> requests.Response:
        whole = min(self._call_deadline, until - self._clock.monotonic())
        if whole <= 0:
            raise Refused(Trouble.LATE, "no time was left to ask")
        with translated():
            return session.request(
                url,
                method,
                authenticated=False,
                raise_exc=False,
                redirect=False,  # a token is not carried to wherever an answer points
                log=False,
                timeout=(min(CONNECT, whole), whole),
                **how,
            )


@contextmanager
def translated() -> Iterator[None]:
    """Turns what keystoneauth, the SDK and requests let through (seen: all of these) into Refused."""
    try:
        yield
    except (ClientException, SDKException, requests.exceptions.RequestException, yaml.YAMLError) as error:
        raise Refused(_trouble(error), _words(error)) from error
    except TimeoutError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise Refused(Trouble.UNREADABLE, f"{type(error).__name__}: {_words(error)}") from error


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, keystone_errors.HttpError):
        return _of_status(int(error.http_status or 0))
    if isinstance(error, keystone_errors.ConnectTimeout):
        return Trouble.LATE
    if isinstance(error, keystone_errors.UnknownConnectionError):
        return Trouble.UNREADABLE
    if isinstance(error, keystone_errors.ConnectionError):
        return Trouble.UNREACHABLE
    return Trouble.UNUSABLE


def _of_status(status: int) -> Trouble:
    return _BY_STATUS.get(status, Trouble.BROKEN if status >= 500 else Trouble.UNUSABLE)


def _words(error: Exception) -> str:
    return shown(" ".join(str(error).split()), 200)[1:-1]


def _wait(response: requests.Response, pause: float | None) -> float | None:
    """Seconds before the same is asked again, None where it is not."""
    if response.status_code not in (429, 503) or pause is None:
        return None
    named = _retry_after(response)
    if named is None:
        return pause
    return named if named <= RETRY_AFTER_CAP else None


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _refuse_failure(response: requests.Response) -> None:
    status = response.status_code
    if status not in (200, 201):
        reason = f"HTTP {status}{_said(response.content)}"
        raise Refused(_of_status(status), reason, _retry_after(response), response.content if status == 404 else b"")


def _said(body: bytes) -> str:
    """The message in an OpenStack error, which is one object in an object."""
    try:
        values = list(document(body).values())
    except Unreadable:
        return ""
    message = values[0].get("message") if len(values) == 1 and isinstance(values[0], dict) else None
    return f" ({shown(message, 160)[1:-1]})" if message else ""


def _refuse_other_version(response: requests.Response, version: str | None) -> None:
    """Of an answer that would be believed: a proxy that drops the header makes Nova answer at 2.1, where a cell that is
    down looks like an empty list; and a 404 without it was not Nova's."""
    used = response.headers.get(VERSION_HEADER)
    if version is not None and response.status_code in (200, 404) and used != f"compute {version}":
        reason = f"HTTP {response.status_code}, asked at compute microversion {version}, answered at {shown(used)}"
        raise Refused(Trouble.UNREADABLE, reason)
