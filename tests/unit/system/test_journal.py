"""The journal explains and never decides; it is on the disk before a step begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.ports.storage_node import Entry, Event
from labstore.system.journal import Journal, unfinished

RUN = Entry("2026-05-29T11:54:00.000+00:00", "r1", Event.RUN, "", {"verb": "down"})
STEP = replace(RUN, event=Event.STEP, step="block", data={})
END = replace(RUN, event=Event.END, data={"seconds": "3.10"})
DISK_FULL = Path("/dev/full")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state/primary.journal")
    assert journal.entries() == ()
    for entry in (RUN, STEP):
        journal.append(entry)
    assert journal.entries() == (RUN, STEP)
    assert journal.unfinished() == (RUN, STEP)
    journal.append(END)
    assert journal.unfinished() == ()


def test_the_last_run_alone_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for entry in (RUN, STEP, replace(RUN, run="r2"), replace(STEP, run="r2", step="record")):
        journal.append(entry)
    assert [entry.run for entry in journal.unfinished()] == ["r2", "r2"]
    journal.append(replace(END, run="r2"))
    assert journal.unfinished() == ()


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_half_line_is_a_run_that_was_cut_off_while_it_wrote(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(RUN)
    journal.append(STEP)
    whole = journal.path.read_bytes()
    line = whole.splitlines(keepends=True)[-1]
    journal.path.write_bytes(whole[: len(whole) - len(line) + (cut if cut > 0 else len(line) + cut)])
    journal.append(replace(STEP, step="record"))
    assert [entry.step for entry in journal.entries()][-1] == "record"
    assert journal.entries()[0] == RUN


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_rubbish_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, rubbish: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.write_bytes(b"\n".join(rubbish))
    journal = Journal(path)
    journal.append(RUN)
    assert journal.entries()[-1] == RUN


def test_a_full_disk_is_an_error_and_not_a_half_line(tmp_path: Path) -> None:
    """acceptance 7"""
    with pytest.raises(OSError, match="No space left"):
        Journal(DISK_FULL).append(RUN)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(tmp_path / "journal").append(RUN)
    assert not (tmp_path / "elsewhere").exists()


def test_it_is_shortened_to_the_newest(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for number in range(30):
        journal.append(replace(STEP, step=str(number)))
    journal.shorten(keep=10)
    assert [entry.step for entry in journal.entries()] == [str(number) for number in range(20, 30)]
    journal.shorten(keep=10)
    assert len(journal.entries()) == 10


def test_nothing_is_unfinished_where_there_is_nothing() -> None:
    assert unfinished(()) == ()
    assert unfinished((RUN, END)) == ()
