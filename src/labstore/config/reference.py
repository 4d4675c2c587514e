"""The reference page of the site file, written from the settings table: `labstore config schema --page`."""

from __future__ import annotations

from collections.abc import Sequence

from labstore.config.schema import OptionsFile
from labstore.config.settings import Setting, sections, settings

_HEAD = """# The site file

`/etc/labstore/site.yaml`. This page is written by `labstore config schema --page`; a test keeps it true.

`labstore config check` reads the file, the mounts files it names and the inventory file (`inventory.source: file`, see
[inventory-file.md](inventory-file.md)), and shows every problem with its line and column.
`labstore config explain` shows every setting with its value and where the value comes from. `labstore config schema`
prints a JSON Schema for editors.

- Unknown keys, duplicate keys, tags, several documents and values of another kind than stated are errors.
- Quantities carry their unit: `30s`, `5m`, `50%`. A bare number is an error.
- Relative paths start at the directory of the site file.
- Secrets never stand in it.
- `<cluster>`, `<share>` and the like are names of your own: letters, digits, `.`, `_` and `-`, at most 63.
- An empty list of clients means nobody. Only `world: true` means everybody.
"""

_NOTES = {
    "projects.<project>.shares.<share>": "What may stand there where it is a map.",
    "exports.brake": (
        "The brake stops a cycle's removals where they are too many, until a person agrees with "
        "`--allow-mass-removal`. Whichever limit is reached first holds them; the parts (%) hold nothing of `floor` "
        "clients or fewer. `absent` is for removals whose only proof is absence from two complete listings, and for "
        "those that a changed declaration causes, and for addresses that another project shows too; `proven` for those "
        "on the cloud's positive word: they need no second listing, and are held only where they are many."
    ),
}


def page() -> str:
    """The whole page, as Markdown."""
    tables: dict[str, list[Setting]] = {"": []}
    notes = {".".join(path): f"{meaning[:1].upper()}{meaning[1:]}." for path, meaning in sections()}
    tables |= {name: [] for name in notes}
    for setting in settings():
        if not _is_option(setting):
            tables[_section(setting)].append(setting)
    parts = [_table(name or "Top level", rows, _NOTES.get(name, notes.get(name, ""))) for name, rows in tables.items()]
    return "\n".join([_HEAD, *parts, _options()])


def _section(setting: Setting) -> str:
    """The part of the name that settings of one table share."""
    steps = setting.path[:-1]
    if setting.name.startswith("<"):
        steps = steps[:-1]
    return ".".join(steps)


def _is_option(setting: Setting) -> bool:
    return setting.name in OptionsFile.model_fields and setting.path[0] in ("shares", "public", "projects")


def _options() -> str:
    """The export options, which three sections share, once."""
    rows = [setting for setting in settings() if _is_option(setting) and setting.path[0] == "shares"]
    note = "Each may stand in `shares.<share>`, in `public.<share>`, and, for one project, in "
    note += "`projects.<project>.shares.<share>`, where leaving it out means: as the kind of share says."
    return _table("Export options", rows, note)


def _table(title: str, rows: Sequence[Setting], note: str) -> str:
    heading = title if " " in title else f"`{title}`"
    lines = [f"## {heading}", "", *([note, ""] if note else [])]
    lines += ["| setting | value | left out | meaning |", "|---|---|---|---|"] if rows else []
    lines += [_row(row) for row in rows]
    return "\n".join([*lines, ""] if rows else lines)


def _row(setting: Setting) -> str:
    what = setting.what + (f" ({setting.unit})" if setting.unit else "")
    what += f", {setting.limits}" if setting.limits else ""
    default = setting.default
    left_out = "must be written" if default is None else default[1:-1] if default[0] == "(" else f"`{default}`"
    name = ".".join(setting.path[-2:]) if setting.name.startswith("<") else setting.name
    return f"| `{name}` | {what} | {left_out} | {setting.meaning} |"
