"""Every value of the site file is of its kind, or is told with its place and what to write instead."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.hang import HANGS
from tests.support.site_text import BASE, base_with, place_of_mark, problems_of

INVENTORY = "inventory: {source: openstack}"
SCRATCH = "clients: [172.16.0.0/21]"
MISC = "misc: {mount: /srv/misc}"
HOME = 'home: {cluster: primary, volume: misc, path: "shared/{project}"}'
TOOLS = "tools: {gid: 50380, shares: {home: true}}"

WRONG = [
    # what is replaced, by what (with the place marked), problem, remedy
    ("site: wikicloud", "site: •'wiki cloud'", "'wiki cloud' is not a site name", "like wikicloud"),
    ("site: wikicloud", "site: •12", "a name is wanted, not a number", 'in quotes if need be: "12"'),
    ("site: wikicloud", "site: •no", "a name is wanted, not true or false", "in quotes"),
    ("site: wikicloud", "site: wikicloud\n•projets: {}", "projets: unknown key", "did you mean 'projects'?"),
    ("site: wikicloud", "site: wikicloud\nstate_dir: •var/lib", "is not an absolute path", "like /var/lib/labstore"),
    ("site: wikicloud", "site: wikicloud\nrun_dir: •/run/../x", "is not an absolute path", "like"),
    (MISC, "misc: {•mont: /srv/misc, mount: /srv/misc}", "unknown key", "did you mean 'mount'?"),
    (MISC, "misc: {mount: •srv/misc}", "it must be absolute", "like /srv/misc"),
    (MISC, "misc: {mount: •/}", "is not an export path", "like /srv/misc"),
    (MISC, "misc: {mount: •'/srv/mi sc'}", "component 'mi sc'", "like /srv/misc"),
    (MISC, 'misc: {mount: •"/srv/misc\\n/etc"}', "is not an export path", "like /srv/misc"),
    (MISC, "misc: {mount: •'/srv/misc#x'}", "component 'misc#x'", "like /srv/misc"),
    (MISC, "misc: {mount: •'/srv/*'}", "component '*'", "like /srv/misc"),
    (MISC, "misc: {mount: /srv/misc, uuid: •xyz}", "'xyz' is not a UUID", "like 6c0f5b3e"),
    (MISC, "misc: {mount: /srv/misc, filesystem: •'ext4;reboot'}", "is not a file system type", "like ext4"),
    (MISC, "misc: {mount: /srv/misc, mounted: •'yes'}", "true or false is wanted, not text 'yes'", "without quotes"),
    (MISC, "•misc: {}", "clusters.primary.volumes.misc.mount: missing", "write `mount: /srv/misc`"),
    (MISC, "misc: •/srv/misc", "a map is wanted", "`key: value` lines"),
    (MISC, "•'mi sc': {mount: /srv/misc}", "'mi sc' is not a volume name", "like misc"),
    ("[172.16.0.10]", "[•172.16.0.0/24]", "is a network, not one address", "like 10.64.37.19"),
    ("[172.16.0.10]", "[•nfs.example.org]", "names are not resolved", "like 10.64.37.19"),
    ("[172.16.0.10]", "•172.16.0.10", "a list is wanted, not text '172.16.0.10'", "[one, two]"),
    ("[nfs.svc.example.org]", "[•'nfs svc']", "'nfs svc' is not a host name", "a host name"),
    ("{n1: {address: 10.64.37.19}, n2: {}}", "{•'n 1': {}}", "'n 1' is not a host name", "a host name"),
    ("primary:\n", "primary:\n    backend: •kernel\n", "'kernel' is none of: knfsd or ganesha", "known are"),
    (
        "primary:\n",
        "primary:\n    ganesha: {•port: 2049}\n",
        "clusters.primary.ganesha.port: unknown key",
        "known are: bus",
    ),
    ("primary:\n", "primary:\n    ganesha: {bus: •'tcp:host=x'}\n", "is not a D-Bus address", "unix:path="),
    (HOME, HOME.replace('}"}', '}", squash: •rot}'), "'rot' is none of", "did you mean 'root'?"),
    (HOME, HOME.replace('}"}', '}", sync: •1}'), "true or false is wanted, not 1", "without quotes"),
    (HOME, HOME.replace('}"}', '}", anonuid: •-1}'), "-1 is less than 0", "0 to 4294967294"),
    (HOME, HOME.replace('}"}', '}", anonuid: •4294967295}'), "is more than 4294967294", "0 to 4294967294"),
    (HOME, HOME.replace('}"}', '}", •security: []}'), "empty", "leave the setting out"),
    (HOME, HOME.replace('}"}', '}", security: [•none]}'), "'none' is none of", "known are"),
    (HOME, HOME.replace('}"}', '}", •no_root_squash: true}'), "unknown key", "did you mean"),
    (HOME, HOME.replace('"shared/{project}"', "•'../{project}'"), "leaves its volume", "without '..'"),
    (HOME, HOME.replace('"shared/{project}"', "•'/srv/{project}'"), "is absolute", "relative to the volume's mount"),
    (
        HOME,
        HOME.replace('"shared/{project}"', '•"shared/{name}"'),
        "a placeholder that there is not",
        "{project}, {gid}",
    ),
    (HOME, HOME.replace('"shared/{project}"', "•'shared/{project} *'"), "component 'p *'", "like shared/{project}"),
    (TOOLS, "tools: {gid: •0, shares: {}}", "0 is less than 1", "1 to 4294967294"),
    (TOOLS, "tools: {gid: •-7, shares: {}}", "-7 is less than 1", "1 to 4294967294"),
    (TOOLS, "tools: {gid: •4294967295, shares: {}}", "is more than 4294967294", "1 to 4294967294"),
    (TOOLS, "tools: {gid: •'50380', shares: {}}", "a whole number is wanted, not text '50380'", "without quotes"),
    (TOOLS, "tools: {gid: •1.5, shares: {}}", "a whole number is wanted", "write digits"),
    (TOOLS, "tools: {gid: 1, shares: {home: •1}}", "a map is wanted, not 1", "`key: value` lines"),
    (TOOLS, "tools: {gid: 1, shares: {•'ho me': true}}", "'ho me' is not a share name", "like home"),
    (TOOLS, "tools: {gid: 1, expect: •xx}", "'xx' is none of: some, any or none", "known are"),
    (TOOLS, "•public_x: {gid: 1}", "'public_' begins the file names of public shares", "like tools"),
    (TOOLS, "•'a\"b': {gid: 1}", "is not a project name", "like tools"),
    (TOOLS, "•'a\\b': {gid: 1}", "is not a project name", "like tools"),
    (TOOLS, "•tools: [x]", "a map is wanted, not a list", "`key: value` lines"),
    (SCRATCH, "clients: [•'*']", "'*' is everybody", "`world: true`"),
    (SCRATCH, "clients: [•0.0.0.0/0]", "'0.0.0.0/0' is everybody", "`world: true`"),
    (SCRATCH, 'clients: [•"::/0"]', "'::/0' is everybody", "`world: true`"),
    (SCRATCH, "clients: [•128.0.0.0/1]", "too wide for a client", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•10.0.0.1/8]", "did you mean 10.0.0.0/8?", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•'*.example.org']", "no wildcards or netgroups", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•'@group']", "no wildcards or netgroups", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•'10.0.0.1(rw)']", "is not an address or network", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•'10.0.0.1 #']", "is not an address or network", "like 172.16.0.0/21"),
    (SCRATCH, 'clients: [•"10.0.0.1\\n*"]', "is not an address or network", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•'']", "is not an address or network", "like 172.16.0.0/21"),
    (SCRATCH, "clients: [•null]", "an address or network is wanted, not nothing", "write text"),
    (INVENTORY, "inventory: {source: •nova}", "'nova' is none of", "known are"),
    (INVENTORY, "•inventory: {}", "inventory.source: missing", "write `source: openstack`"),
    (INVENTORY, "inventory: {source: openstack, openstack: {•password: x}}", "unknown key", "secrets never stand"),
    (
        INVENTORY,
        "inventory: {source: openstack, openstack: {call_deadline: •30}}",
        "30 has no unit",
        "for seconds: 30s",
    ),
    (
        INVENTORY,
        "inventory: {source: openstack, openstack: {call_deadline: •1d}}",
        "not a sensible time",
        "100ms to 10m",
    ),
    (INVENTORY, "inventory: {source: openstack, openstack: {concurrency: •1000}}", "is more than 64", "1 to 64"),
    (INVENTORY, "inventory: {source: openstack, openstack: {regions: [•no]}}", "not true or false", "in quotes"),
    (INVENTORY, "inventory: {source: openstack, openstack: {addresses: [•ipv4]}}", "'ipv4' is none of", "known are"),
    ("poll: 3s", "poll: •3", "3 has no unit", "for seconds: 3s"),
    ("poll: 3s", "poll: •3sec", "'3sec' is not a duration", "500ms, 30s, 5m"),
    ("poll: 3s", "poll: •0s", "not a sensible time", "write 100ms to 1h"),
    ("poll: 3s", "brake: {absent: {project: •0.5}}", "0.5 has no unit", "50%"),
    ("poll: 3s", "brake: {absent: {overall: •200%}}", "is more than all", "0% to 100%"),
    ("poll: 3s", "brake: {absent: {count: •-1}}", "-1 is less than 0", "0 to 1000000"),
    ("poll: 3s", "•allow_networks: []", "empty", "leave the setting out"),
    ("poll: 3s", "allow_networks: [•0.0.0.0/0]", "too wide", "like 172.16.0.0/12"),
    ("exports: {poll: 3s}", "metrics: {listen: •localhost:9311}", "is not an address", "127.0.0.1:9311"),
    ("exports: {poll: 3s}", "metrics: {listen: •127.0.0.1:0}", "is not address:port", "127.0.0.1:9311"),
    ("exports: {poll: 3s}", 'metrics: {listen: •"::1:9311"}', "is not address:port", "127.0.0.1:9311"),
    ("exports: {poll: 3s}", "exports:•", "a map is wanted, not nothing", "`key: value` lines"),
]


@pytest.mark.parametrize(("old", "new", "problem", "remedy"), WRONG)
def test_what_is_wrong_is_told_with_its_place_and_remedy(
    tmp_path: Path, old: str, new: str, problem: str, remedy: str
) -> None:
    text, place = place_of_mark(base_with(old, new))
    found = problems_of(tmp_path / "site.yaml", text)
    here = [each for each in found if (each.line, each.column) == place]
    assert here, [each.text() for each in found]
    assert problem in here[0].message()
    assert remedy in here[0].remedy()


def test_one_wrong_part_is_told_once_and_does_not_hide_the_others(tmp_path: Path) -> None:
    text = BASE.replace("poll: 3s", "poll: 3").replace("wikicloud", "'a b'").replace("volume: tools", "volume: tolls")
    text = text.replace("mount: /srv/misc", "mount: misc")
    found = problems_of(tmp_path / "site.yaml", text)
    assert [each.line for each in found] == [1, 8, 17, 19]
    assert "has no volume 'tolls'" in found[2].message()


def test_a_file_that_is_wrong_from_the_start_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    found = problems_of(tmp_path / "site.yaml", "clusters: {}\nshares: 7\n")
    assert [each.problem.partition(":")[0] for each in found] == ["site", "clusters", "inventory", "shares"]
    assert "write `inventory: {source: openstack}`" in found[2].remedy()


def test_ten_thousand_problems_are_cut(tmp_path: Path) -> None:
    text = BASE.replace("projects:\n", "projects:\n" + "".join(f"  p{n}: {{gid: -1}}\n" for n in range(10_000)))
    found = problems_of(tmp_path / "site.yaml", text)
    assert len(found) == 101
    assert found[-1].problem == "9900 more problems"


def test_a_path_that_grows_too_long_with_a_projects_name_is_told(tmp_path: Path) -> None:
    long = "/".join(["{project}"] * 20)
    name = "p" * 63
    text = BASE.replace("shared/{project}", long).replace("tools: {gid", f"{name}: {{gid")
    (only,) = problems_of(tmp_path / "site.yaml", text)
    assert (only.line, "at most 1024 characters" in only.message()) == (14, True)
    assert only.remedy() == "shorten the path of share home"


def test_a_file_in_which_nothing_is_right_is_told(tmp_path: Path) -> None:
    sections = ("clusters", "shares", "projects", "public", "inventory", "exports", "metrics", "site", "projects_file")
    found = problems_of(tmp_path / "site.yaml", "".join(f"{section}: [1, {{a: b}}]\n" for section in sections))
    assert {each.line for each in found} == set(range(1, len(sections) + 1))


def test_a_site_file_of_garbage_is_told_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    clients = problems_of(tmp_path / "site.yaml", BASE.replace("172.16.0.0/21", "nope," * 30_000 + "x"))
    (nodes,) = problems_of(tmp_path / "site.yaml", BASE + "".join(f"p{n}: 7\n" for n in range(90_000)))
    assert time.monotonic() - started < HANGS
    assert clients[-1].problem == "29901 more problems"
    assert "more than 100000 keys and values" in nodes.message()
