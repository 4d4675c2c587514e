"""Random tables of exports, for the formats and backends that carry them."""

from __future__ import annotations

from hypothesis import strategies as st

from labstore.model.exports import Access, Export, ExportOptions, ExportTable, Fsid, Security, Squash

PLACES = ("/srv/a", "/srv/b", "/srv/b/in", "/srv/misc/shared/c/home", "/srv/d+x@y_z-1.2")
ADDRESSES = (
    "10.0.0.1",
    "10.0.0.2",
    "172.16.255.254",
    "10.1.0.0/16",
    "2001:db8::1",
    "2001:db8:7::/64",
    "fe80::/99",
    "1::",
)


@st.composite
def options(draw: st.DrawFn) -> ExportOptions:
    flavours = draw(st.lists(st.sampled_from(Security), min_size=1, unique=True))
    fsids = st.one_of(st.integers(1, (1 << 32) - 1).map(str), st.uuids().map(str))
    ids = st.one_of(st.none(), st.integers(0, (1 << 32) - 1))
    return ExportOptions(
        access=draw(st.sampled_from(Access)),
        squash=draw(st.sampled_from(Squash)),
        sync=draw(st.booleans()),
        security=tuple(flavours),
        subtree_check=draw(st.booleans()),
        insecure=draw(st.booleans()),
        crossmnt=draw(st.booleans()),
        nohide=draw(st.booleans()),
        fsid=draw(st.one_of(st.none(), fsids.map(Fsid))),
        anonuid=draw(ids),
        anongid=draw(ids),
    )


@st.composite
def exports(draw: st.DrawFn, path: str) -> Export:
    """An export to somebody."""
    owner = draw(st.sampled_from(("tools", "public_scratch", "a.b-c")))
    if draw(st.sampled_from((False, False, False, True))):
        return Export.of(owner, path, (), draw(options()), world=True)
    return Export.of(owner, path, draw(st.sets(st.sampled_from(ADDRESSES), min_size=1)), draw(options()))


@st.composite
def tables(draw: st.DrawFn) -> ExportTable:
    places = draw(st.sets(st.sampled_from(PLACES)))
    return ExportTable(tuple(draw(exports(place)) for place in sorted(places)))
