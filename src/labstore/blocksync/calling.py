"""The end that calls: shakes hands with the one that was started for it, and is the end that is here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from labstore.blocksync.channel import Channel
from labstore.blocksync.index import source_caches, target_index
from labstore.blocksync.messages import Committed, Complete, Hello, Welcome, limits_text, options_text
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import VERSION
from labstore.model.block_sync import Limits, Options, Role, SyncResult
from labstore.reports.blocksync import OtherVersion, SyncFailed

if TYPE_CHECKING:
    from labstore.blocksync.ends import End
    from labstore.blocksync.meter import Meter
    from labstore.blocksync.session import Job
    from labstore.blocksync.source import SourceEnd
    from labstore.blocksync.target import TargetEnd
    from labstore.system.piped import Piped


def call(
    job: Job,
    options: Options,
    limits: Limits,
    peer: Piped,
    meter: Meter,
    where: str | None,
    begun: Callable[[End], None],
) -> SyncResult:
    """One session with `peer`, which is on the machine `where` (None: here). `begun` gets the end that is here when
    both have agreed. Raises SyncFailed."""
    channel = Channel(peer.reading, peer.writing, job.patience, peer.last_words)
    try:
        try:
            end = _shaken(channel, job, options, limits, meter)
        except SyncFailed as failure:
            from labstore.blocksync.reach import never_begun  # noqa: PLC0415 - only where it went wrong

            raise never_begun(failure, channel, peer, where) from None
        begun(end)
        end.run()
    finally:
        channel.close()
    return _result(channel, end.committed, end.complete, meter, options.block_size)


def _shaken(channel: Channel, job: Job, options: Options, limits: Limits, meter: Meter) -> SourceEnd | TargetEnd:
    """Shake hands, and become the end that is here meanwhile."""
    push = job.target.host is not None
    nonce = os.urandom(16).hex()
    role, path = (Role.TARGET, job.target.path) if push else (Role.SOURCE, job.source.path)
    channel.say(Hello(VERSION, nonce, role, path, options_text(options), limits_text(limits), job.label))
    end = (_source if push else _target)(channel, job, options, limits, meter)
    welcome = channel.hear(Welcome)
    if welcome.version != VERSION:
        raise SyncFailed(OtherVersion(VERSION, welcome.version))
    channel.open_session(nonce, welcome.nonce, are_caller=True)
    return end


def _source(channel: Channel, job: Job, options: Options, limits: Limits, meter: Meter) -> SourceEnd:
    from labstore.blocksync.source import SourceEnd, SourceSpec  # noqa: PLC0415 - while the other end answers

    spec = SourceSpec(job.source.path, options, source_caches(job.state), job.label, job.token)
    return SourceEnd(channel, spec, Throttle(limits), meter)


def _target(channel: Channel, job: Job, options: Options, limits: Limits, meter: Meter) -> TargetEnd:
    from labstore.blocksync.target import TargetEnd, TargetSpec  # noqa: PLC0415 - as above

    spec = TargetSpec(job.target.path, options, target_index(job.state, job.target.path), allow=job.allow)
    return TargetEnd(channel, spec, Throttle(limits), meter)


def _result(channel: Channel, committed: Committed, complete: Complete, meter: Meter, block_size: int) -> SyncResult:
    return SyncResult(
        generation=committed.generation,
        root=committed.root,
        passed=committed.passed,
        why=committed.why,
        size=meter.size,
        read=complete.read,
        changed=complete.changed,
        zeroed=complete.zeroed,
        sent=channel.sent,
        received=channel.received,
        scrubbed=committed.scrubbed,
        token=None if complete.torn else complete.token,
        read_back=committed.read_back,
        block_size=block_size,
        seconds=0.0,  # how long all attempts took, whoever made them says
        samples=complete.samples,
        torn=complete.torn,
        notes=complete.notes,
    )
