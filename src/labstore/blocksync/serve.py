"""The end that was called: over ssh, behind a forced command or not, or as a child of the other end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labstore.blocksync.channel import Channel
from labstore.blocksync.ends import End
from labstore.blocksync.index import source_caches, target_index
from labstore.blocksync.messages import FaultSaid, Hello, Welcome, limits_of, options_of
from labstore.blocksync.meter import Meter
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import VERSION, BadFrame
from labstore.model.block_sync import PATIENCE, DevicePath, Limits, Options, Permit, Role
from labstore.ports.block_source import Provider
from labstore.reports.blocksync import BrokenProtocol, NotAllowed, OtherVersion, SyncFailed


@dataclass(frozen=True)
class Jail:
    """The one job of a forced command: this role, one of these devices, these permits at most. Nothing else that the
    caller says opens anything: a hints file is named here or there is none. `provide` prepares what is read."""

    role: Role
    paths: frozenset[str]
    permits: frozenset[Permit] = frozenset()
    hints: str | None = None
    label: str = ""
    provide: Provider | None = None


def jail_of(
    sources: Sequence[str], targets: Sequence[str], permits: Sequence[str], hints: str | None, label: str | None
) -> Jail | None:
    """The jail that the options of `labstore blocksync serve` describe; None where there are none. Raises ValueError
    where they contradict each other: what was meant to confine must not end as no confinement."""
    if sources and targets:
        raise ValueError("a forced command is for one role: give --source or --target")
    if permits and not targets:
        raise ValueError("--permit is for a --target, and none is given")
    if (hints or label) and not sources:
        raise ValueError("--hints and --label are for a --source, and none is given")
    paths = frozenset(map(DevicePath, sources or targets))
    allowed = frozenset(map(Permit, permits))
    return Jail(Role.SOURCE if sources else Role.TARGET, paths, allowed, hints, label or "") if paths else None


@dataclass(frozen=True)
class Called:
    """What a caller asked for, as far as it may."""

    role: Role
    path: str
    options: Options
    limits: Limits
    label: str


def serve(
    reading: int,
    writing: int,
    state: Path,
    jail: Jail | None = None,
    patience: float = PATIENCE,
    started: Callable[[End], None] = lambda _end: None,
) -> None:
    """Be the called end of one session; `started` gets it before it works. Raises SyncFailed, after the caller was
    told."""
    channel = Channel(reading, writing, patience)
    try:
        end = _shaken(channel, state, jail)
        started(end)
        end.run()
    finally:
        channel.close()


def _shaken(channel: Channel, state: Path, jail: Jail | None) -> End:
    try:
        hello = channel.hear(Hello)
        called = allowed(hello, jail)
        nonce = os.urandom(16).hex()
        channel.say(Welcome(VERSION, nonce))
        channel.open_session(hello.nonce, nonce, are_caller=False)
    except SyncFailed as failure:
        channel.farewell(FaultSaid.of(failure.report))
        raise
    return (
        _target(channel, called, state, jail) if called.role is Role.TARGET else _source(channel, called, state, jail)
    )


def _target(channel: Channel, called: Called, state: Path, jail: Jail | None) -> End:
    from labstore.blocksync.target import TargetEnd, TargetSpec  # noqa: PLC0415 - a source has no use for it

    spec = TargetSpec(called.path, called.options, target_index(state, called.path), fixed=jail is not None)
    return TargetEnd(channel, spec, Throttle(called.limits), Meter())


def _source(channel: Channel, called: Called, state: Path, jail: Jail | None) -> End:
    from labstore.blocksync.source import SourceEnd, SourceSpec  # noqa: PLC0415 - nor a target for this

    provide = jail.provide if jail else None
    spec = SourceSpec(called.path, called.options, source_caches(state), called.label, provide=provide)
    return SourceEnd(channel, spec, Throttle(called.limits), Meter())


def allowed(hello: Hello, jail: Jail | None) -> Called:
    """What a caller gets. Raises SyncFailed."""
    if hello.version != VERSION:
        raise SyncFailed(OtherVersion(VERSION, hello.version))
    try:
        options, limits = options_of(hello.options), limits_of(hello.limits)
    except BadFrame as error:
        raise SyncFailed(BrokenProtocol(str(error))) from None
    if jail is None:
        return Called(hello.role, hello.path, options, limits, hello.label)
    if hello.role is not jail.role:
        raise SyncFailed(NotAllowed(f"being the {hello.role}"))
    if hello.path not in jail.paths:
        raise SyncFailed(NotAllowed(f"device {hello.path}"))
    options = replace(options, permits=options.permits & jail.permits, hints=jail.hints)
    return Called(hello.role, hello.path, options, limits, jail.label)
