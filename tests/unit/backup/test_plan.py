"""When a generation is made, from where, and what goes: every rule by its case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from labstore.backup.desired import kept
from labstore.backup.guards import guard
from labstore.backup.observe import figures
from labstore.backup.plan import BackupPlan, plan_backups, source_of
from labstore.model.backup import Generation, GenerationName, RestoreMount, Sort, Standing, Verdict
from labstore.model.backup_settings import JobName, Keep, LogicalVolume, PullFrom
from labstore.model.names import HostName
from labstore.ports.snapshots import Room
from labstore.reconcile.facts import Fact
from labstore.reconcile.plan import Verb
from labstore.reports import backup as said
from labstore.reports.report import Override
from tests import laws
from tests.support.fake_clock import START
from tests.unit.backup.strategies import (
    BACKUPS,
    NODES,
    book,
    facts,
    generation,
    job,
    job_facts,
    missing,
    status,
    target,
)


def verbs(plan: BackupPlan) -> list[tuple[Verb, str]]:
    return [(step.verb, str((step.after or step.before).name)) for step in plan.steps if step.after or step.before]  # type: ignore[union-attr]


NOW = GenerationName.at(START)


def test_the_first_is_made_at_once() -> None:
    plan = plan_backups(facts(job_facts()))
    assert verbs(plan) == [(Verb.ADD, NOW)]
    assert plan.steps[0].why == "there is none yet"


def test_nothing_is_done_before_it_is_due() -> None:
    assert plan_backups(facts(job_facts(generation(23), generation(40)))).empty
    due = plan_backups(facts(job_facts(generation(24))))
    assert verbs(due) == [(Verb.ADD, NOW)]
    assert due.steps[0].why == "the newest is 1d old"


def test_what_was_asked_for_is_made_whether_it_is_due_or_not() -> None:
    assert not plan_backups(facts(job_facts(generation(1), asked=True))).empty


def test_a_state_without_its_generation_is_owed_one() -> None:
    assert "ended before" in plan_backups(facts(job_facts(generation(1), owed=True))).steps[0].why


@pytest.mark.parametrize("more", [{"asked": True}, {"owed": True}, {}], ids=["asked for", "owed", "due by now"])
def test_a_clock_that_went_back_makes_no_second_of_the_same_name_and_it_is_said(more: dict[str, bool]) -> None:
    early = generation(-2)
    found = facts(job_facts(generation(30), early, **more))
    plan = plan_backups(found)
    assert not plan.steps
    (report,) = plan.reports
    assert isinstance(report, said.GenerationAhead)
    assert report.remedy().endswith(f"labstore snapshots remove backup/tools labstore-tools-{early.name}")
    assert plan.untouched == {"tools": f"generation {early.name} is dated after now"}
    shown = figures(found)["tools"]
    assert isinstance(shown, dict)
    assert shown["newest_proven"] == generation(30).at.isoformat(), "it is no proof of anything yet"


def test_two_within_one_second_get_names_of_their_own() -> None:
    """A small volume is copied, and proven, in less than a second."""
    first, second = generation(0), Generation(GenerationName.at(START + timedelta(seconds=1)), "", "", 0)
    plan = plan_backups(facts(job_facts(first, second, asked=True)))
    assert verbs(plan)[0] == (Verb.ADD, GenerationName.at(START + timedelta(seconds=2)))


# --- from where ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snapshot", "hours"),
    [
        ("labstore-tools-source-20260529T055400Z", 6),
        ("labstore-tools-source-20260527T115400Z", 0),
        ("labstore-tools-source-00010101T000000Z", 0),
        ("labstore-tools-1", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_one_that_goes_on_from_an_older_snapshot_is_of_its_moment(snapshot: str | None, hours: int) -> None:
    """Nobody shall take it for newer than what is in it."""
    nodes = {NODES[1]: status("beta", unfinished=snapshot)}
    plan = plan_backups(facts(job_facts(generation(24), nodes=nodes)))
    assert verbs(plan) == [(Verb.ADD, GenerationName.at(START - timedelta(hours=hours)))]
    newer = plan_backups(facts(job_facts(generation(1), nodes=nodes, asked=True)))
    assert newer.steps[0].after is not None
    assert newer.steps[0].after.name > generation(1).name, "names go on in the order in which they are made"


def test_the_standby_is_read() -> None:
    assert source_of(job_facts())[0] == "beta"
    swapped = {NODES[0]: status("alpha"), NODES[1]: status("beta", Standing.ACTIVE)}
    assert source_of(job_facts(nodes=swapped))[0] == "alpha"


@pytest.mark.parametrize(
    "beta",
    [
        missing(),
        status("beta", replica="Inconsistent"),
        status("beta", replica="Outdated"),
        status("beta", trouble="it is being resynchronised"),
        status("beta", Standing.UNKNOWN),
    ],
    ids=["silent", "inconsistent", "outdated", "trouble", "unknown"],
)
def test_without_a_fit_standby_nothing_is_read_unless_any_will_do(beta: object) -> None:
    nodes = {NODES[0]: status("alpha", Standing.ACTIVE), NODES[1]: beta}
    plan = plan_backups(facts(job_facts(nodes=nodes)))
    assert plan.empty
    assert isinstance(plan.reports[0], said.NoSource)
    assert "no machine can be read" in plan.untouched[JobName("tools")]
    anybody = job_facts(nodes=nodes, job=job(pull_from=PullFrom.ANY))
    assert source_of(anybody)[0] == "alpha"


def test_a_machine_alone_is_read_whatever_it_is() -> None:
    alone = job_facts(nodes={NODES[0]: status("alpha", Standing.ACTIVE)})
    assert source_of(alone)[0] == "alpha"
    unfit = job_facts(nodes={NODES[0]: status("alpha", Standing.ACTIVE, replica="Inconsistent")})
    assert source_of(unfit)[0] is None


def test_where_nobody_can_be_asked_the_remedy_is_how_they_are_reached() -> None:
    nobody = plan_backups(facts(job_facts(nodes=dict.fromkeys(NODES, missing())))).reports[0]
    assert "nodes and reach of backup.jobs.tools" in (nobody.remedy() or "")
    behind = {NODES[0]: missing(), NODES[1]: status("beta", replica="Inconsistent")}
    assert "labstore failover status" in (plan_backups(facts(job_facts(nodes=behind))).reports[0].remedy() or "")


# --- what is kept ----------------------------------------------------------------------------------------------------


def ages(generations: list[Generation], policy: Keep) -> list[float]:
    names = kept(generations, policy)
    return sorted((START - name.moment) / timedelta(hours=1) for name in names)


def test_the_newest_of_each_hour_day_week_and_month() -> None:
    hourly = [generation(hours) for hours in range(24 * 40)]
    found = ages(hourly, Keep(hourly=3, daily=3, weekly=2, monthly=2, least=1))
    # START is a Friday, 11:54: the newest of a day before is from 23:54, of the week before from Sunday
    assert found == [0, 1, 2, 12, 36, 12 + 4 * 24, 12 + 28 * 24]


def test_the_newest_proven_one_stays_however_old_it_is() -> None:
    bad = [generation(hours, Verdict.FAILED) for hours in range(20)]
    assert 5000.0 in ages([*bad, generation(5000)], Keep(1, 0, 0, 0, least=1))


def test_one_that_failed_its_proof_takes_no_place_in_the_policy() -> None:
    there = [generation(0, Verdict.FAILED), generation(0.5)]
    assert ages(there, Keep(hourly=1, daily=0, weekly=0, least=1)) == [0, 0.5]


def test_a_budget_lets_the_oldest_go_first_but_never_the_last_ones() -> None:
    there = [generation(hours, takes=10) for hours in range(10)]
    assert ages(there, Keep(hourly=10, least=2, budget=45)) == [0, 1, 2, 3]
    assert ages(there, Keep(hourly=10, least=2, budget=0)) == [0, 1]


def test_pinned_and_mounted_ones_stay() -> None:
    old = generation(9000)
    assert ages([generation(0), replace(old, pinned=True)], Keep(1, 0, 0, 0, 1)) == [0, 9000]
    mount = RestoreMount(JobName("tools"), old.name, "/srv/backup/x", START + timedelta(hours=1))
    plain = job_facts(generation(0.1), old, job=job(keep=Keep(1, 0, 0, 0, 1)))
    assert verbs(plan_backups(facts(plain))) == [(Verb.REMOVE, old.name)]
    assert plan_backups(facts(replace(plain, mounts=book(mount)))).empty


def test_a_mount_whose_time_is_over_goes_and_so_may_what_it_held() -> None:
    old = generation(9000)
    mount = RestoreMount(JobName("tools"), old.name, "/srv/backup/x", START)
    world = facts(job_facts(generation(0.1), old, job=job(keep=Keep(1, 0, 0, 0, 1)), mounts=book(mount)))
    plan = plan_backups(world)
    assert [step.before.sort for step in plan.steps if step.before] == [Sort.MOUNT, Sort.GENERATION]


def test_what_was_never_proven_is_proven_before_anything_is_let_go() -> None:
    plan = plan_backups(facts(job_facts(generation(1, Verdict.UNTRIED), generation(2))))
    assert [step.verb for step in plan.steps] == [Verb.CHANGE]


def test_one_that_overflowed_gives_back_what_it_takes() -> None:
    lost = generation(48).name
    plan = plan_backups(facts(job_facts(generation(1), overflowed=(lost,))))
    assert verbs(plan) == [(Verb.REMOVE, lost)]
    assert "it overflowed" in plan.steps[0].why


def test_generations_that_could_not_be_listed_are_left_alone() -> None:
    plan = plan_backups(facts(job_facts(generations=missing())))
    assert plan.empty
    assert plan.untouched == {JobName("tools"): "its generations could not be listed"}


def test_one_job_that_cannot_be_seen_does_not_stop_another() -> None:
    other = job_facts(job=job("misc"))
    plan = plan_backups(facts(job_facts(generations=missing()), other))
    assert [step.key for step in plan.steps] == [f"misc/{NOW}"]


# --- told ------------------------------------------------------------------------------------------------------------


def test_somebody_is_told_when_the_newest_proof_is_too_old() -> None:
    """upstream #37: success was believed; #40: mail on every run was ignored."""
    bad = [generation(hours, Verdict.FAILED) for hours in (1, 20, 40)]
    plan = plan_backups(facts(job_facts(*bad, generation(60))))
    assert [type(report) for report in plan.reports] == [said.Unproven]
    assert "2.5d" in plan.reports[0].message() or "60h" in plan.reports[0].message()
    assert plan_backups(facts(job_facts(*bad, generation(47)))).reports == ()
    assert isinstance(plan_backups(facts(job_facts(generation(70, Verdict.FAILED)))).reports[0], said.Unproven)


# --- guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "refusal"),
    [
        (job_facts(target=target(holder="mounted at /mnt")), said.TargetHeld),
        (job_facts(target=missing()), said.TargetMissing),
        (job_facts(target=target(size=1 << 30)), said.TargetShort),
        (job_facts(target=target(room=Room(1 << 40, 1 << 20, needs_size=True))), said.NoRoom),
        (job_facts(nodes={NODES[1]: status("beta", free=1 << 20)}), said.NoRoom),
    ],
)
def test_what_is_refused_before_anything_is_snapshotted(world: object, refusal: type) -> None:
    """upstream #39."""
    every = facts(world)  # type: ignore[arg-type]
    plan = guard(every, plan_backups(every), frozenset(Override))
    assert plan.empty
    assert [type(each.report) for each in plan.refusals] == [refusal]


def test_a_mounted_generation_does_not_stop_todays_job() -> None:
    """upstream #39."""
    old = generation(30)
    mount = RestoreMount(JobName("tools"), old.name, "/srv/backup/x", START + timedelta(hours=1))
    every = facts(job_facts(old, mounts=book(mount)))
    assert verbs(guard(every, plan_backups(every))) == [(Verb.ADD, NOW)]


def test_an_interrupted_run_goes_on_from_its_snapshot_without_room_for_another() -> None:
    nodes = {NODES[1]: status("beta", free=0, unfinished="labstore-tools-1")}
    every = facts(job_facts(nodes=nodes))
    assert not guard(every, plan_backups(every)).empty


def test_an_image_file_grows_by_itself() -> None:
    from labstore.model.block_sync import DevicePath  # noqa: PLC0415

    every = facts(job_facts(job=job(target=DevicePath("/srv/tools.img")), target=target(size=5)))
    assert not guard(every, plan_backups(every)).empty


def test_many_removals_at_once_wait_for_a_person() -> None:
    there = [generation(0.1), *(generation(1000 + hours) for hours in range(7))]
    every = facts(job_facts(*there, job=job(keep=Keep(1, 0, 0, 0, 1))))
    held = guard(every, plan_backups(every))
    assert held.empty
    assert held.refusals[0].report.override is Override.ALLOW_MASS_REMOVAL
    assert guard(every, plan_backups(every), frozenset({Override.ALLOW_MASS_REMOVAL})).removals == 7


def test_names_are_moments() -> None:
    assert GenerationName.at(START).moment == START
    assert LogicalVolume.parse("backup/tools").path == "/dev/backup/tools"
    for bad in ("backup", "backup/", "/x", "a/b/c", "a b/c", "-x/y"):
        with pytest.raises(ValueError, match=r"is not a|is no"):
            LogicalVolume.parse(bad)
    assert HostName("alpha") in job_facts().nodes
    assert isinstance(job_facts().generations, Fact)


def test_the_planner_is_one_under_the_laws() -> None:
    laws.deterministic(BACKUPS, facts(job_facts()))
