"""From files to a site."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labstore.config.load import Loaded, load, load_mounts
from labstore.formats.mounts_file import MOUNT_NAMES
from labstore.model.exports import Access, Squash
from labstore.model.site import Expect
from labstore.reports.in_file import BadFile
from tests.support.hang import HANGS
from tests.support.site_text import BASE, base_with, problems_of

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests/fixtures"
DATA = ROOT.parent / "shared/data"


def loaded(path: Path, text: str) -> Loaded:
    path.write_text(text)
    return load(path)


def test_the_shipped_example_loads() -> None:
    found = load(ROOT / "docs/examples/site.yaml")
    assert found.notices == ()
    primary = {export.path: export for export in found.site.wanted("primary")}
    assert set(primary) == {"/srv/misc/shared/quarry", "/srv/misc/shared/testlabs", "/srv/tools/shared/tools"}
    assert primary["/srv/tools/shared/tools"].shares == ("tools-home", "tools-project")
    assert primary["/srv/misc/shared/quarry"].options.access is Access.RO
    assert primary["/srv/misc/shared/testlabs"].expect is Expect.NONE
    scratch = next(export for export in found.site.wanted("secondary") if export.public)
    assert (scratch.owner, scratch.clients, scratch.world) == ("public_scratch", ("172.16.0.0/21",), False)


def test_the_smallest_site_has_safe_defaults(tmp_path: Path) -> None:
    site = loaded(tmp_path / "site.yaml", BASE).site
    (export,) = (each for each in site.wanted("primary") if each.project == "maps")
    assert (export.options.squash, export.options.sync, export.options.mountpoint) == (Squash.ROOT, True, "/srv/misc")
    assert export.options.fsid is not None
    assert (export.clients, export.world) == ((), False)
    assert site.project("maps").external == ("dumps",)


def test_an_empty_client_list_means_nobody(tmp_path: Path) -> None:
    site = loaded(tmp_path / "site.yaml", base_with("clients: [172.16.0.0/21]", "clients: []")).site
    assert [(share.clients, share.world) for share in site.public] == [((), False)]


def test_everybody_is_only_ever_written(tmp_path: Path) -> None:
    site = loaded(tmp_path / "site.yaml", base_with("clients: [172.16.0.0/21]", "world: true")).site
    assert [(share.clients, share.world) for share in site.public] == [((), True)]


def test_relative_paths_start_at_the_site_file(tmp_path: Path) -> None:
    text = base_with("source: openstack", "source: file, file: inventory.yaml")
    assert loaded(tmp_path / "site.yaml", text).site.inventory.file == tmp_path / "inventory.yaml"


def test_a_project_may_have_its_own_volume(tmp_path: Path) -> None:
    text = base_with(
        "tools: {gid: 50380, shares: {home: true}}", "tools: {gid: 50380, shares: {home: {volume: tools}}}"
    )
    site = loaded(tmp_path / "site.yaml", text).site
    (share,) = site.project("tools").shares
    assert (share.volume, share.path) == ("tools", "/srv/tools/shared/tools")


def test_settings_of_a_server_that_is_not_run_are_pointed_at(tmp_path: Path) -> None:
    found = loaded(tmp_path / "site.yaml", base_with("primary:\n", "primary:\n    ganesha: {bus: 'unix:path=/bus'}\n"))
    (notice,) = found.notices
    assert (notice.line, notice.column) == (4, 5)
    assert notice.problem == "clusters.primary.ganesha has no effect: its backend is knfsd"


# --- mounts files ----------------------------------------------------------------------------------------------------

SITE_2020 = """\
site: wikicloud
clusters:
  primary:
    volumes: {misc: {mount: /srv/misc}, tools: {mount: /srv/tools}}
shares:
  project: {cluster: primary, volume: misc, path: "shared/{project}"}
  home: {cluster: primary, volume: misc, path: "shared/{project}"}
  tools-home: {cluster: primary, volume: tools, path: shared/tools, projects: [tools]}
  tools-project: {cluster: primary, volume: tools, path: shared/tools, projects: [tools]}
  maps: {external: true}
  dumps: {external: true}
projects_file: MOUNTS
inventory: {source: openstack}
"""
SITE_2024 = """\
site: wikicloud
clusters:
  library:
    service_names: [LIBRARY-nfs.svc.library.example.org]
    volumes: {library: {mount: /srv/library}}
shares:
  project: {cluster: library, volume: library, path: project}
  home: {cluster: library, volume: library, path: home, squash: none}
  dumps: {external: true}
  scratch: {external: true}
projects_file: [MOUNTS]
inventory: {source: openstack}
"""


def site_of(path: Path, text: str, mounts: Path) -> Loaded:
    return loaded(path, text.replace("MOUNTS", str(mounts)))


def test_the_first_schema_selects_shares_by_their_names(tmp_path: Path) -> None:
    found = site_of(tmp_path / "site.yaml", SITE_2020, FIXTURES / "mounts-2020.yaml")
    exports = {export.path: export.shares for export in found.site.wanted("primary")}
    assert exports == {
        "/srv/misc/shared/library": ("home", "project"),
        "/srv/tools/shared/tools": ("tools-home", "tools-project"),
    }
    assert [notice.problem.split(" lies")[0].split(" is the")[0] for notice in found.notices] == [
        "public scratch (/exp/scratch)",
        "public root (/exp)",
    ]


def test_a_public_line_on_a_volume_of_ours_is_served(tmp_path: Path) -> None:
    text = SITE_2020.replace("volumes: {", "volumes: {scratch: {mount: /exp/scratch}, ")
    found = site_of(tmp_path / "site.yaml", text, FIXTURES / "mounts-2020.yaml")
    (share,) = found.site.public
    assert (share.owner, share.path, share.world, share.policy.squash) == (
        "public_scratch",
        "/exp/scratch",
        True,
        Squash.ROOT,
    )


def test_the_second_schema_gives_the_path_itself_and_leaves_other_servers_alone(tmp_path: Path) -> None:
    found = site_of(tmp_path / "site.yaml", SITE_2024, FIXTURES / "mounts-2024.yaml")
    exports = {export.path: export for export in found.site.wanted("library")}
    assert set(exports) == {"/srv/library/home", "/srv/library/project"}
    assert exports["/srv/library/home"].options.squash is Squash.NONE
    assert found.site.project("library").external == ("dumps", "scratch")
    (notice,) = found.notices
    assert "video-nfs.svc.video.example.org is no service name of this site: 1 of its mounts" in notice.message()
    assert "service_names" in notice.remedy()


def test_a_path_of_ours_on_no_volume_of_ours_is_a_problem_of_the_mounts_file(tmp_path: Path) -> None:
    text = SITE_2024.replace("/srv/library}", "/srv/other}").replace("MOUNTS", str(FIXTURES / "mounts-2024.yaml"))
    found = problems_of(tmp_path / "site.yaml", text)
    assert [(Path(each.file).name, each.line) for each in found] == [("mounts-2024.yaml", 6), ("mounts-2024.yaml", 7)]
    assert "/srv/library/home lies on no volume of cluster library" in found[0].message()


def test_an_unknown_mount_name_is_told_once_however_many_projects_have_it(tmp_path: Path) -> None:
    text = SITE_2020.replace("  dumps: {external: true}\n", "").replace("MOUNTS", str(FIXTURES / "mounts-2020.yaml"))
    (only,) = problems_of(tmp_path / "site.yaml", text)
    assert "share 'dumps' is not declared (3 projects have it, this is the first)" in only.message()
    assert "`dumps: {external: true}`" in only.remedy()


def test_the_site_file_adds_to_a_mounts_file(tmp_path: Path) -> None:
    text = SITE_2020 + "projects:\n  tools: {expect: none}\n  library: {shares: {home: false, project: {access: ro}}}\n"
    site = site_of(tmp_path / "site.yaml", text, FIXTURES / "mounts-2020.yaml").site
    assert site.project("tools").expect is Expect.NONE
    (share,) = site.project("library").shares
    assert (share.share, share.policy.access) == ("project", Access.RO)


def test_two_files_that_disagree_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("tools: {gid: 1, mounts: {home: h:/a}}\n")
    (tmp_path / "b.yaml").write_text("tools: {gid: 2, mounts: {home: h:/b}}\n")
    text = SITE_2020.replace("MOUNTS", "[a.yaml, b.yaml]") + "projects: {tools: {gid: 3}}\n"
    found = problems_of(tmp_path / "site.yaml", text)
    assert [(Path(each.file).name, each.line) for each in found] == [("site.yaml", 14), ("b.yaml", 1), ("b.yaml", 1)]
    assert "has gid 3 here and 1 in" in found[0].message()
    assert "has gid 2 here and 1 in" in found[1].message()
    assert "share home of project tools is another in" in found[2].message()


def test_a_broken_mounts_file_does_not_hide_what_is_wrong_with_the_site_file(tmp_path: Path) -> None:
    (tmp_path / "mounts.yaml").write_text("tools: {gid: 0, mounts: {}}\n")
    text = SITE_2020.replace("MOUNTS", "[mounts.yaml, missing.yaml]").replace("volume: tools", "volume: tolls", 1)
    found = problems_of(tmp_path / "site.yaml", text)
    assert [Path(each.file).name for each in found] == ["site.yaml", "mounts.yaml", "missing.yaml"]
    assert "cannot be read: No such file" in found[2].message()


def with_the_originals_names(site: str) -> str:
    """The site with every mount name of the original declared, as served elsewhere where it is not ours."""
    more = (f"  {name}: {{external: true}}\n" for name in sorted(MOUNT_NAMES) if f"  {name}:" not in site)
    return site.replace("projects_file", "".join(more) + "projects_file")


@pytest.mark.parametrize(("name", "site"), [("nfs-mounts-2020.yaml", SITE_2020), ("nfs-projects-2024.yaml", SITE_2024)])
def test_the_published_files_load(tmp_path: Path, name: str, site: str) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the published file {name} is not in ../shared/data")
    more = "".join(
        f"  {share}: {{external: true}}\n"
        for share in ("scratch", "maps", "toolsbeta-home", "toolsbeta-project", "tools-home", "tools-project")
        if f"  {share}:" not in site
    )
    found = site_of(
        tmp_path / "site.yaml", site.replace("projects_file", "#\nprojects_file").replace("#\n", more), path
    )
    private = [export for cluster in found.site.clusters for export in found.site.wanted(cluster.name)]
    assert len(private) == (19 if "2020" in name else 0)


def test_the_published_second_schema_is_served_where_a_host_is_ours(tmp_path: Path) -> None:
    path = DATA / "nfs-projects-2024.yaml"
    if not path.exists():
        pytest.skip("the published file nfs-projects-2024.yaml is not in ../shared/data")
    host = "testlabs-nfs.svc.testlabs.eqiad1.wikimedia.cloud"
    site = SITE_2024.replace("LIBRARY-nfs.svc.library.example.org", host).replace("/srv/library", "/srv/testlabs")
    found = site_of(tmp_path / "site.yaml", with_the_originals_names(site), path)
    assert [export.path for export in found.site.wanted("library")] == ["/srv/testlabs/home", "/srv/testlabs/project"]


# --- hostile files ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_file_is_told(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "none.yaml", "No such file")):
        with pytest.raises(BadFile, match=words):
            load(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    for read, size in ((load, (1 << 20) + 1), (load_mounts, (10 << 20) + 1)):
        path = tmp_path / "large.yaml"
        path.write_bytes(b"#" * size)
        with pytest.raises(BadFile, match="at most") as raised:
            read(path)
        assert "is this the right file?" in raised.value.reports[0].text()


def test_five_thousand_projects_load_within_seconds(tmp_path: Path) -> None:
    mounts = "".join(f"p{n}: {{gid: {10_000 + n}, mounts: {{home: true, project: true}}}}\n" for n in range(5_000))
    (tmp_path / "mounts.yaml").write_text(mounts)
    started = time.monotonic()
    site = loaded(
        tmp_path / "site.yaml", SITE_2020.replace("MOUNTS", "mounts.yaml").replace("projects: [tools]", "squash: all")
    ).site
    assert len(site.wanted("primary")) == 5_000
    assert time.monotonic() - started < HANGS


SNIPPETS = st.sampled_from(
    [
        *("", "*", " ", "\n", "\n  ", ": ", "'", '"', "[", "]", "{", "}", "#", "&a ", "*a", "!!x ", "~", "null", "on"),
        *("0", "-1", "1e9", "0777", "/", "/..", "../", "{project}", "{gid}", "0.0.0.0/0", "::/0", "true", "[]", "{}"),
        *("\x00", "\N{LATIN SMALL LETTER E WITH ACUTE}", "---"),
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(BASE)), st.integers(0, 12), SNIPPETS)
def test_a_damaged_file_is_taken_or_told_and_never_opens_a_share(
    tmp_path: Path, at: int, length: int, snippet: str
) -> None:
    try:
        site = loaded(tmp_path / "site.yaml", BASE[:at] + snippet + BASE[at + length :]).site
    except BadFile as error:
        assert all(report.remedy() for report in error.reports)
        return
    for cluster in site.clusters:
        assert not any(export.world for export in site.wanted(cluster.name))
