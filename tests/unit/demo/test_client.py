"""What the client makes of libnfs's words (as captured from 4.0.0)."""

from __future__ import annotations

import pytest

from labstore.demo.client import NfsError


@pytest.mark.parametrize(
    ("said", "number", "status", "refused"),
    [
        ("mount_cb: NFS4: (path /srv/a) failed with NFS4ERR_NOENT(-2)", 2, "NFS4ERR_NOENT", True),
        (
            'pread call failed with "NFS4: READ (path (null)) failed with NFS4ERR_ACCESS(-13)"',
            13,
            "NFS4ERR_ACCESS",
            True,
        ),
        ('pread call failed with "NFS4: READ (path (null)) failed with NFS4ERR_STALE(-5)"', 116, "NFS4ERR_STALE", True),
        ('open call failed with "NFS4: (path /) failed with NFS4ERR_GRACE(-5)"', 34, "NFS4ERR_GRACE", False),
        ('open call failed with "NFS4: (path /) failed with NFS4ERR_EXPIRED(-5)"', 34, "NFS4ERR_EXPIRED", False),
        ("mount_cb: command timed out", 4, "", False),
        ("nfs_service failed", 5, "", False),
        ("", 5, "", False),
    ],
)
def test_a_refusal_is_told_from_a_failure(said: str, number: int, status: str, refused: bool) -> None:
    error = NfsError("mount /srv/a", number, said)
    assert (error.status, error.refused) == (status, refused)
    assert str(error).startswith("mount /srv/a: ")
