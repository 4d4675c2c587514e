"""The login: configuration through openstacksdk, one token for everything, one per project where it must be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keystoneauth1 import plugin
from keystoneauth1.access import AccessInfo, AccessInfoV3
from keystoneauth1.identity.base import BaseIdentityPlugin
from keystoneauth1.session import Session
from openstack.config import OpenStackConfig
from openstack.config.cloud_region import CloudRegion

from labstore.model.site import OpenStackSettings
from labstore.ports.clock import Clock
from labstore.sources.openstack.background import within
from labstore.sources.openstack.exchange import Answered, BoundedAdapter, Exchange, Meter, translated
from labstore.sources.openstack.manners import Manners
from labstore.sources.openstack.trouble import Refused, Trouble

PROJECT_TOKEN_LIFE = 600.0
"""Seconds for which the token of one project is used again; every cloud's tokens live longer."""


T = TypeVar("T")


class ScopeUnfit(Refused):
    """The login succeeded, with a scope in which Nova shows nothing; `scope` says which."""

    def __init__(self, scope: str) -> None:
        super().__init__(Trouble.UNUSABLE, f"the login has {scope} scope")
        self.scope = scope


@dataclass(frozen=True)
class Login:
    """A token (never shown) and what it opens. `regions` offer compute; `at` is monotonic."""

    token: str
    project_id: str
    domain: tuple[str, str]
    regions: tuple[str, ...]
    at: float

    def __repr__(self) -> str:
        return f"Login(project {self.project_id}, regions {self.regions})"


class Cloud:
    """One entry of clouds.yaml. Safe to use from several threads; nothing is asked before it is needed."""

    def __init__(self, settings: OpenStackSettings, clock: Clock, manners: Manners) -> None:
        self._settings, self._clock, self._manners = settings, clock, manners
        self.meter = Meter()
        self._exchange = Exchange(clock, settings.call_deadline, manners.pause)
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._interface: Any = "public"
        self._login: Login | None = None
        self._projects: dict[str, tuple[str, float]] = {}
        self._endpoints: dict[tuple[str, str | None], tuple[str, str]] = {}

    def login(self) -> Login:
        """The login, renewed where it is about to end. Raises Refused (ScopeUnfit for a scope that is of no use).

        After a failure the configuration is read again: a corrected password needs no restart.
        """
        with self._lock:
            return self._logged_in()

    def compute(self, region: str) -> str:
        """Where a region's Nova is. Raises Refused."""
        return self._endpoint(service_type="compute", interface=self._interface, region_name=region, version="2")

    def identity(self) -> str:
        """Where Keystone's API 3 is: there where the login went. Raises Refused."""
        return self._endpoint(service_type="identity", interface=plugin.AUTH_INTERFACE, region_name=None, version="3")

    def get(self, url: str, until: float, version: str | None = None, project_id: str | None = None) -> Answered:
        """The answer to a GET, as the login's project or as another. Raises Refused.

        A 401 is met with one new token and one repetition, never with a second.
        """
        token = self._token(project_id, until)
        try:
            return self._exchange.get(self._opened(), url, token, until, version)
        except Refused as refused:
            if refused.trouble is not Trouble.UNAUTHORIZED:
                raise
            fresh = self._renewed(token, project_id, until)
            if fresh is None:
                raise
        return self._exchange.get(self._opened(), url, fresh, until, version)

    # --- tokens -----------------------------------------------------------------------------------------------------

    def _token(self, project_id: str | None, until: float) -> str:
        login = self.login()
        if project_id is None or project_id == login.project_id:
            return login.token
        kept = self._projects.get(project_id)
        if kept is not None and kept[1] > self._clock.monotonic():
            return kept[0]
        return self._enter(project_id, until)

    def _renewed(self, stale: str, project_id: str | None, until: float) -> str | None:
        """Another token than `stale` for the same project, None where a fresh one was refused too."""
        if project_id is None or project_id == self.login().project_id:
            login = self._logged_in_again(stale)
            return login.token if login else None
        kept = self._projects.get(project_id)
        if kept is not None and kept[0] == stale:
            self._projects.pop(project_id, None)  # another thread may have done so, and be entering again
        return self._token(project_id, until)

    def _enter(self, project_id: str, until: float) -> str:
        """A token for another project, exchanged for the login's: no password is checked for it. Raises Refused."""
        login = self.login()
        try:
            return self._exchanged(login, project_id, until)
        except Refused as refused:
            again = self._logged_in_again(login.token) if refused.trouble is Trouble.UNAUTHORIZED else None
            if again is None:
                raise
        return self._exchanged(again, project_id, until)

    def _exchanged(self, login: Login, project_id: str, until: float) -> str:
        identity = {"methods": ["token"], "token": {"id": login.token}}
        body = {"auth": {"identity": identity, "scope": {"project": {"id": project_id}}}}
        url = f"{self.identity()}/auth/tokens?nocatalog"
        answer = self._exchange.post(self._opened(), url, login.token, until, body)
        token = answer.headers.get("X-Subject-Token", "")
        if not token:
            raise Refused(Trouble.UNREADABLE, "Keystone issued a token without one")
        self._projects[project_id] = (token, self._clock.monotonic() + PROJECT_TOKEN_LIFE)
        return token

    # --- login ------------------------------------------------------------------------------------------------------

    def _logged_in(self) -> Login:
        try:
            access = self._access()
            if self._login is None or access.auth_token != self._login.token:
                self._login = self._checked(access)
                self._projects.clear()
            return self._login
        except Refused:
            self._session = self._login = None
            raise

    def _access(self) -> AccessInfo:
        session = self._opened()
        if not isinstance(session.auth, BaseIdentityPlugin):
            raise Refused(Trouble.UNUSABLE, "the auth_type in clouds.yaml is not one that logs in")
        auth = session.auth
        return self._bounded("the login", lambda: auth.get_access(session))

    def _logged_in_again(self, stale: str) -> Login | None:
        with self._lock:
            current = self._login
            if current is not None and current.token == stale:
                if self._clock.monotonic() - current.at < self._manners.fresh_token:
                    return None
                self._opened().invalidate()
            return self._logged_in()

    def _checked(self, access: AccessInfo) -> Login:
        if not isinstance(access, AccessInfoV3) or not access.auth_token:
            raise Refused(Trouble.UNUSABLE, "the login is not one of identity API 3")
        if not access.project_scoped or not access.project_id:
            scope = "system" if access.system_scoped else "domain" if access.domain_scoped else "no"
            raise ScopeUnfit(scope)
        with translated():
            found = access.service_catalog.get_endpoints_data(service_type="compute", interface=self._interface)
        regions = {endpoint.region_name for endpoints in found.values() for endpoint in endpoints}
        return Login(
            token=access.auth_token,
            project_id=access.project_id,
            domain=(access.project_domain_id or "", access.project_domain_name or ""),
            regions=tuple(sorted(region for region in regions if region)),
            at=self._clock.monotonic(),
        )

    def _opened(self) -> Session:
        with self._lock:
            if self._session is None:
                with translated():
                    config = _configured(self._settings)
                    session = config.get_session()
                session.timeout = self._settings.call_deadline
                adapter = BoundedAdapter(self.meter, self._clock, self._settings.concurrency + 4)
                session.mount("http://", adapter)
                session.mount("https://", adapter)
                self._interface = config.get_interface("compute") or "public"
                self._session = session
            return self._session

    def _endpoint(self, *, version: str, **where: Any) -> str:
        token, key = self.login().token, (where["service_type"], where["region_name"])
        kept = self._endpoints.get(key)
        if kept is not None and kept[0] == token:
            return kept[1]
        url = self._bounded("the way to an endpoint", lambda: self._found(version, where))
        self._endpoints[key] = (token, url)
        return url

    def _found(self, version: str, where: Mapping[str, Any]) -> str:
        session = self._opened()
        url = session.get_endpoint(session.auth, min_version=version, max_version=f"{version}.latest", **where)
        if not url:
            raise Refused(Trouble.UNUSABLE, f"the catalog has no {where['service_type']} endpoint to use")
        return str(url).rstrip("/")

    def _bounded(self, what: str, ask: Callable[[], T]) -> T:
        """For what keystoneauth does by itself, several requests and locks: it was seen to wait for its own lock for
        ever. The session is given up where it hangs."""
        try:
            with translated():
                return within(2 * self._settings.call_deadline, ask)
        except TimeoutError:
            self._session = self._login = None
            raise Refused(Trouble.LATE, f"{what} hangs") from None


def _configured(settings: OpenStackSettings) -> CloudRegion:
    """The entry of clouds.yaml; where the site names the file, that file (and secure.yaml beside it) alone counts."""
    where: Mapping[str, Any] = {}
    if settings.clouds_file is not None:
        secure = Path(settings.clouds_file).with_name("secure.yaml")
        where = {"config_files": [str(settings.clouds_file)], "secure_files": [str(secure)], "load_envvars": False}
        if not Path(settings.clouds_file).is_file():
            raise Refused(Trouble.UNUSABLE, f"{settings.clouds_file} cannot be read")
    return OpenStackConfig(app_name="labstore", **where).get_one(cloud=settings.cloud)
