"""The site's own arithmetic: what a cluster exports, where a path lies, what the brake holds."""

from __future__ import annotations

import pytest

from labstore.model.exports import Fsid
from labstore.model.names import ClusterName, ExportPath, HostName, ProjectName, ShareName, VolumeName
from labstore.model.site import (
    Brake,
    BrakeLimits,
    Cluster,
    FsidFrom,
    Node,
    ProjectShare,
    PublicShare,
    SharePolicy,
    Site,
    SiteName,
    SiteProject,
    Volume,
)

MISC = Volume(VolumeName("misc"), ExportPath("/srv/misc"))
PLAIN = Volume(VolumeName("plain"), ExportPath("/srv/plain"), mounted=False)
PRIMARY = Cluster(
    ClusterName("primary"),
    volumes=(MISC, PLAIN),
    nodes=(Node(HostName("labstore1004")), Node(HostName("a.example.org"))),
)


def share(name: str, path: str, policy: SharePolicy | None = None, cluster: str = "primary") -> ProjectShare:
    volume = "misc" if path.startswith("/srv/misc") else "plain"
    return ProjectShare(
        ShareName(name), ClusterName(cluster), VolumeName(volume), ExportPath(path), policy or SharePolicy()
    )


def site(*shares: ProjectShare, name: str = "wikicloud") -> Site:
    tools = SiteProject(ProjectName("tools"), 50380, shares)
    scratch = PublicShare(ShareName("scratch"), PRIMARY.name, PLAIN.name, PLAIN.mount, world=True)
    return Site(SiteName(name), (PRIMARY, Cluster(ClusterName("other"))), projects=(tools,), public=(scratch,))


def test_shares_of_one_path_are_one_export() -> None:
    wanted = site(share("home", "/srv/misc/tools"), share("project", "/srv/misc/tools")).wanted("primary")
    assert [(each.owner, each.path, each.shares) for each in wanted] == [
        ("tools", "/srv/misc/tools", ("home", "project")),
        ("public_scratch", "/srv/plain", ("scratch",)),
    ]
    assert [(each.public, each.world, each.clients) for each in wanted] == [(False, False, ()), (True, True, ())]


def test_only_the_clusters_own_shares_are_wanted() -> None:
    found = site(share("home", "/srv/misc/tools", cluster="other"))
    assert [each.owner for each in found.wanted("primary")] == ["public_scratch"]
    with pytest.raises(KeyError):
        found.wanted("tertiary")


def test_an_fsid_is_the_sites_and_the_clusters_and_the_paths() -> None:
    """The same on both nodes; another in every other site (upstream #32)."""
    ours = {
        each.options.fsid for each in site(share("home", "/srv/misc/a"), share("b", "/srv/misc/b")).wanted("primary")
    }
    theirs = {each.options.fsid for each in site(share("home", "/srv/misc/a"), name="another").wanted("primary")}
    assert len(ours) == 3
    assert not ours & theirs


def test_fsids_from_the_gid_and_from_the_volume() -> None:
    shares = (
        share("home", "/srv/misc/a", SharePolicy(fsid=FsidFrom.GID)),
        share("project", "/srv/misc/b", SharePolicy(fsid=FsidFrom.VOLUME)),
    )
    found = {each.path: each.options.fsid for each in site(*shares).wanted("primary")}
    assert found["/srv/misc/a"] == Fsid.of_gid(50380)
    assert found["/srv/misc/b"] is None
    with pytest.raises(ValueError, match="only come from the gid"):
        SharePolicy(fsid=FsidFrom.GID).options("x", MISC.mount, MISC, None)


def test_the_mount_point_is_guarded_unless_there_is_none() -> None:
    """Nothing is exported from an empty directory (upstream #13)."""
    guarded, open_ = SharePolicy(), SharePolicy(mountpoint_guard=False)
    assert guarded.options("x", MISC.mount, MISC, 1).mountpoint == "/srv/misc"
    assert guarded.options("x", PLAIN.mount, PLAIN, 1).mountpoint is None
    assert open_.options("x", MISC.mount, MISC, 1).mountpoint is None


def test_the_volume_of_a_path_goes_by_components() -> None:
    assert PRIMARY.volume_of(ExportPath("/srv/misc/shared/tools")) == MISC
    assert PRIMARY.volume_of(ExportPath("/srv/misc")) == MISC
    assert PRIMARY.volume_of(ExportPath("/srv/miscellaneous")) is None


def test_a_node_is_found_by_its_full_name_or_its_first_label() -> None:
    found = site()
    assert [cluster.name for cluster in found.clusters_of("labstore1004.eqiad.example.org")] == ["primary"]
    assert [cluster.name for cluster in found.clusters_of("a.example.org")] == ["primary"]
    assert found.clusters_of("a") == ()


@pytest.mark.parametrize(
    ("removed", "before", "held"),
    [
        (1, 1, False),  # the floor: one client is never too many
        (2, 3, True),
        (2, 100, False),
        (6, 100, True),  # more than 5 %
        (20, 10_000, False),
        (21, 10_000, True),  # more than 20
    ],
)
def test_the_brake_for_absence(removed: int, before: int, held: bool) -> None:
    assert Brake().absent.holds_overall(removed, before) is held


def test_the_brake_for_proof_lets_a_small_site_change() -> None:
    proven = Brake().proven
    assert not proven.holds_overall(3, 3)
    assert not proven.holds_project(50, 50)
    assert proven.holds_overall(40, 100)
    assert proven.holds_overall(201, 100_000)


def test_the_brake_of_one_project() -> None:
    limits = BrakeLimits(project=0.5, overall=1.0, count=1000, floor=1)
    assert not limits.holds_project(5, 10)
    assert limits.holds_project(6, 10)
