"""What must hold between the parts of a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.site_text import BASE, base_with, place_of_mark, problems_of

HOME = 'home: {cluster: primary, volume: misc, path: "shared/{project}"}'
TOOLS = "tools: {gid: 50380, shares: {home: true}}"
SCRATCH = "scratch: {cluster: primary, volume: tools, path: scratch, clients: [172.16.0.0/21]}"
POLL = "poll: 3s"

WRONG = [
    # references
    (HOME, HOME.replace("cluster: primary", "cluster: •primry"), "there is no cluster 'primry'", "mean 'primary'?"),
    (HOME, HOME.replace("volume: misc", "volume: •mics"), "cluster primary has no volume 'mics'", "mean 'misc'?"),
    (SCRATCH, SCRATCH.replace("volume: tools", "volume: •tols"), "has no volume 'tols'", "mean 'tools'?"),
    (HOME, HOME.replace('}"}', '}", projects: [•toools]}'), "there is no project toools", "mean 'tools'?"),
    (TOOLS, "tools: {gid: 50380, shares: {•hom: true}}", "share 'hom' is not declared", "did you mean 'home'"),
    (TOOLS, "tools: {gid: 50380, shares: {home: {volume: •tols}}}", "has no volume 'tols'", "mean 'tools'?"),
    (POLL, "subnets: {•tols: [10.1.0.0/24]}", "there is no project tols", "declare the project"),
    (HOME, "•home: {cluster: primary, volume: misc}", "shares.home: no path", "`external: true`"),
    (HOME, HOME + "\n  maps: {external: true, •squash: all}", "has no effect", "take it out, or `external: true`"),
    (TOOLS, "•tools: {shares: {home: true}}", "project tools has no gid", "write `gid: 50380`"),
    (HOME, HOME.replace('}"}', '}", projects: [maps]}') + "\n#", "may not have share home", "shares.home.projects"),
    # directories
    ("site: wikicloud", "site: wikicloud\nstate_dir: •/", "state_dir is /", "like /var/lib/labstore"),
    ("site: wikicloud", "site: wikicloud\nrun_dir: •/var/lib/labstore/run", "lies in, state_dir", "side by side"),
    ("site: wikicloud", "site: wikicloud\nstate_dir: •/run/labstore", "state_dir /run/labstore is, or lies", "side"),
    (
        "    service_names",
        "    exports_dir: •/var/lib/labstore/exports.d\n    service_names",
        "exports_dir /var/lib/labstore/exports.d is, or lies in, state_dir /var/lib/labstore",
        "side by side",
    ),
    # everybody
    (SCRATCH, SCRATCH.replace("[172.16.0.0/21]", '[•"*"], world: true'), "'*' is everybody", "in place of the clients"),
    (SCRATCH, SCRATCH.replace("[172.16.0.0/21]", "[], world: •true"), "names clients and is for everybody", "take out"),
    # clusters
    ("n2: {}", "n2: {•address: 10.64.37.19}", "address 10.64.37.19 stands here and in line 6", "once"),
    ("[172.16.0.10]", "[172.16.0.10, •172.16.0.10]", "address 172.16.0.10 stands here and in line 4", "once"),
    ("n2: {}", "•N1: {}", "node n1 stands here and in line 6", "a machine belongs to one cluster"),
    (
        "tools: {mount: /srv/tools}",
        "tools: {mount: •/srv/misc}",
        "is mounted at /srv/misc, as volume misc is",
        "its own",
    ),
    ("tools: {mount: /srv/tools}", "tools: {mount: •/srv/misc/t}", "is mounted inside of volume misc", "side by side"),
    (
        "misc: {mount: /srv/misc}",
        "misc: {mount: /srv/misc, uuid: 6c0f5b3e-2f0b-4b0e-9d0c-3f4f0a1c2d3e, mounted: •false}",
        "is a plain directory (mounted: false) and has a file system",
        "take out `mounted: false`",
    ),
    (
        "    service_names",
        "    export_root: •/srv/misc/exp\n    service_names",
        "export_root /srv/misc/exp and volume misc at /srv/misc lie in one another",
        "beside the volumes",
    ),
    # exports
    (TOOLS, TOOLS.replace("true}", "true, •home2: true}"), "share 'home2' is not declared", "declare it under shares:"),
    ("gid: 50196", "gid: 50380", "project tools and project maps both have gid 50380", "own group"),
    (HOME, HOME.replace("shared/{project}", "shared"), "is also the path of project", "put {project} into the path"),
    (
        SCRATCH,
        "•" + SCRATCH.replace("volume: tools, path: scratch", "volume: misc, path: shared/maps/x"),
        "lies inside",
        "side",
    ),
    (
        SCRATCH,
        SCRATCH.replace("volume: tools, path: scratch", "volume: misc, path: ."),
        "lies inside of /srv/misc",
        "side",
    ),
    (
        SCRATCH,
        "•" + SCRATCH.replace("clients: [172.16.0.0/21]", "world: true, squash: none"),
        "everybody's root",
        "squash: root",
    ),
    (SCRATCH, SCRATCH.replace("clients:", "world: •true, clients:"), "names clients and is for everybody", "take out"),
    (SCRATCH, "•scratch: {cluster: primary, volume: tools}", "says for whom it is nowhere", "`world: true`"),
    (SCRATCH, SCRATCH.replace("path: scratch", "path: •'x/{project}'"), "is no project's", "without {project}"),
    (SCRATCH, "•" + SCRATCH.replace("}", ", fsid: gid}"), "has no gid to make an fsid of", "take `fsid: gid` out"),
    (SCRATCH, "•" + SCRATCH.replace("scratch:", "x" * 57 + ":"), "too long a name", "at most 56"),
    (SCRATCH, "•" + SCRATCH.replace("scratch:", "home:"), "declared under shares: and under public:", "take one out"),
    # networks
    (
        POLL,
        "subnets: {tools: [10.1.0.0/16], maps: [•10.1.2.0/24]}",
        "10.1.2.0/24 of project maps lies in 10.1.0.0/16 of project tools",
        "belongs to one project",
    ),
    (
        POLL,
        "allow_networks: [172.16.0.0/12], subnets: {tools: [•10.1.0.0/16]}",
        "is not in exports.allow_networks",
        "widen",
    ),
    ("source: openstack", "source: •file", "source: file, and no file", "write `file: inventory.yaml`"),
]


@pytest.mark.parametrize(("old", "new", "problem", "remedy"), WRONG)
def test_what_does_not_hold_is_told_with_its_place_and_remedy(
    tmp_path: Path, old: str, new: str, problem: str, remedy: str
) -> None:
    text = base_with(old, new)
    text, place = place_of_mark(text) if "•" in text else (text, None)
    found = problems_of(tmp_path / "site.yaml", text)
    here = [each for each in found if problem in each.message()]
    assert here, [each.text() for each in found]
    assert remedy in here[0].remedy()
    assert place is None or (here[0].line, here[0].column) == place


def test_all_that_does_not_hold_is_told_at_once(tmp_path: Path) -> None:
    text = base_with(HOME, HOME.replace('}"}', '}", fsid: gid}'))
    text = text.replace("gid: 50196", "gid: 196")
    text = text.replace("tools: {mount: /srv/tools}", "tools: {mount: /srv/misc/shared}")
    found = [each.problem for each in problems_of(tmp_path / "site.yaml", text)]
    assert any("gid 196 has not the five digits" in problem for problem in found)
    assert any("mounted inside of volume misc" in problem for problem in found)


def test_one_path_with_two_sets_of_options_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    text = base_with(
        HOME, HOME + "\n  project: {cluster: primary, volume: misc, path: 'shared/{project}', squash: all}"
    )
    text = text.replace(TOOLS, "tools: {gid: 50380, shares: {home: true, project: true}}")
    (only,) = problems_of(tmp_path / "site.yaml", text)
    assert "/srv/misc/shared/tools is share project and share home with different options" in only.message()
    assert only.remedy() == "one path has one set of options; they differ in: squash"


def test_one_gid_makes_one_fsid_only(tmp_path: Path) -> None:
    text = base_with(
        HOME,
        HOME.replace('}"}', '}", fsid: gid}') + "\n  p: {cluster: primary, volume: tools, path: '{gid}', fsid: gid}",
    )
    text = text.replace(TOOLS, "tools: {gid: 50380, shares: {home: true, p: true}}")
    (only,) = problems_of(tmp_path / "site.yaml", text)
    assert "would have one fsid, made from its gid" in only.message()
    assert only.remedy() == "write `fsid: path` for one of the shares"


def test_a_node_or_address_or_name_of_two_clusters_is_refused(tmp_path: Path) -> None:
    second = """\
  second:
    service_addresses: [172.16.0.10]
    service_names: [NFS.svc.example.org]
    nodes: {n1: {}}
    volumes: {x: {mount: /srv/misc}}
"""
    found = problems_of(tmp_path / "site.yaml", BASE.replace("shares:\n", second + "shares:\n", 1))
    assert [each.problem.partition(" stands")[0] for each in found] == [
        "address 172.16.0.10",
        "service name nfs.svc.example.org",
        "node n1",
    ]
