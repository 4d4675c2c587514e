"""Whose home it is, by the directory itself: for callers that name an account and not its owner."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from labstore.model.accounts import AccountKind, home_name
from labstore.model.names import Name


def home_uid(bases: Mapping[AccountKind, Path], kind: AccountKind, name: Name) -> int | None:
    """The uid that owns the home; None where there is none. Nothing is followed. Raises OSError."""
    base = bases.get(kind)
    if base is None:
        raise FileNotFoundError(2, f"no homes of {kind.value} accounts are configured")
    descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.stat(home_name(kind, name), dir_fd=descriptor, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None
    finally:
        os.close(descriptor)
