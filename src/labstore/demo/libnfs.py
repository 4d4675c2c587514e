"""The few functions of libnfs.so.13 (Debian's libnfs13, 4.0.0) that a client needs, through ctypes.

The library rather than its programs (nfs-ls, nfs-cat, nfs-cp): a program cannot keep a file open while its rights are
taken away, cannot write over a file, and has no deadline.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, Structure, c_char_p, c_int, c_uint64, c_void_p
from functools import lru_cache

NAMES = ("libnfs.so.13", "libnfs.so.14")


class LibraryMissing(OSError):
    """libnfs is not installed."""


class Dirent(Structure):
    """The beginning of struct nfsdirent; the rest is not read."""

    _fields_ = (("next", c_void_p), ("name", c_char_p), ("inode", c_uint64))


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nfs_init_context": (c_void_p, ()),
    "nfs_destroy_context": (None, (c_void_p,)),
    "nfs_parse_url_dir": (c_void_p, (c_void_p, c_char_p)),
    "nfs_destroy_url": (None, (c_void_p,)),
    "nfs_get_error": (c_char_p, (c_void_p,)),
    "nfs_set_timeout": (None, (c_void_p, c_int)),
    "nfs_set_uid": (None, (c_void_p, c_int)),
    "nfs_set_gid": (None, (c_void_p, c_int)),
    "nfs4_set_client_name": (None, (c_void_p, c_char_p)),
    "nfs4_set_verifier": (None, (c_void_p, c_char_p)),
    "nfs_mount": (c_int, (c_void_p, c_char_p, c_char_p)),
    "nfs_open2": (c_int, (c_void_p, c_char_p, c_int, c_int, POINTER(c_void_p))),
    "nfs_close": (c_int, (c_void_p, c_void_p)),
    "nfs_pread": (c_int, (c_void_p, c_void_p, c_uint64, c_uint64, c_void_p)),
    "nfs_pwrite": (c_int, (c_void_p, c_void_p, c_uint64, c_uint64, c_char_p)),
    "nfs_fsync": (c_int, (c_void_p, c_void_p)),
    "nfs_ftruncate": (c_int, (c_void_p, c_void_p, c_uint64)),
    "nfs_opendir": (c_int, (c_void_p, c_char_p, POINTER(c_void_p))),
    "nfs_readdir": (POINTER(Dirent), (c_void_p, c_void_p)),
    "nfs_closedir": (None, (c_void_p, c_void_p)),
    "nfs_unlink": (c_int, (c_void_p, c_char_p)),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """libnfs with its functions declared. Raises LibraryMissing."""
    for name in NAMES:
        try:
            loaded = ctypes.CDLL(name)
        except OSError:
            continue
        for function, (result, arguments) in _SIGNATURES.items():
            declared = getattr(loaded, function)
            declared.restype, declared.argtypes = result, arguments
        return loaded
    raise LibraryMissing(f"none of {', '.join(NAMES)} is installed")
