"""Small words for every view: lengths of time, and text from elsewhere made harmless."""

from __future__ import annotations


def safe(text: object) -> str:
    """Text that somebody else chose, made harmless: what is not printable (line ends, cursor movements, marks that turn
    the direction of writing) is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def ago(seconds: float) -> str:
    """A length of time for people: `4 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
