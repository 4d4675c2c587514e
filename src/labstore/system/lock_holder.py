"""Who holds a lock, without touching it: a reader that took the lock for a moment could turn away a run that begins."""

from __future__ import annotations

from pathlib import Path


def holder(path: Path, locks: Path = Path("/proc/locks")) -> str:
    """What the holder wrote about itself, empty where nobody holds it. Raises OSError."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return ""
    for line in locks.read_text().splitlines():
        words = line.split()
        if "FLOCK" in words and "->" not in words and any(word.endswith(f":{inode}") for word in words):
            said = path.read_text(errors="replace").strip()
            return said or f"pid {words[4]}"
    return ""
