"""Why the other end never began: what ssh says, how its command ended, what was printed in its place."""

from __future__ import annotations

from labstore.blocksync.channel import Channel
from labstore.blocksync.wire import MAGIC
from labstore.reports.blocksync import BrokenProtocol, PeerLost, SyncFailed
from labstore.reports.blocksync_reach import CannotReach, Chatter, NoAnswer, NotReached
from labstore.system.piped import Piped

SSH_FAILED = 255
"""The status of ssh itself; any other is that of the command over there."""
_SIGNALLED = 128
"""Shells report a command that was killed with a status above this."""
_LASTING = (
    *("Permission denied", "Host key verification failed", "Too many authentication failures"),
    *("configuration option", "user config file", "Bad owner or permissions", "Name or service not known"),
)
"""What ssh says of what no waiting mends."""


def never_begun(failure: SyncFailed, channel: Channel, peer: Piped, where: str | None) -> SyncFailed:
    """What to say instead of `failure`, which came up before the other end had said a word that we understand."""
    if failure.told or not isinstance(failure.report, PeerLost | BrokenProtocol):
        return failure
    place = where or "the other end"
    if not MAGIC.startswith(channel.stray[: len(MAGIC)]):
        return SyncFailed(Chatter(place, _printed(channel.stray)))
    if isinstance(failure.report, BrokenProtocol):
        return failure
    status = peer.end()
    words = peer.last_words()
    if where is not None and status == SSH_FAILED and any(each in words for each in _LASTING):
        return SyncFailed(CannotReach(place, words))
    if 0 <= status <= _SIGNALLED:
        return SyncFailed(NoAnswer(place, status, words))
    return SyncFailed(NotReached(place, words or failure.report.what))


def _printed(stray: bytes) -> str:
    """The first line of what was printed, as far as it was read."""
    text = stray.partition(MAGIC)[0].decode("utf-8", "replace").strip()
    return "".join(sign if sign.isprintable() else "?" for sign in text.partition("\n")[0])
