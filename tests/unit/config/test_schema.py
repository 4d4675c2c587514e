"""The schema's defaults are the model's, and the JSON Schema is as strict as the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labstore.config.load import load
from labstore.config.schema import OptionsFile, json_schema
from labstore.config.settings import setting_at, written
from labstore.model.site import Cluster, ExportsSettings, MetricsSettings, OpenStackSettings, SharePolicy, Site
from tests.support.site_text import BASE


def test_what_the_file_leaves_out_is_what_the_model_has(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BASE.replace("exports: {poll: 3s}\n", ""))
    site = load(path).site
    assert site.exports == ExportsSettings()
    assert site.metrics == MetricsSettings()
    assert site.inventory.openstack == OpenStackSettings()
    cluster = site.cluster("primary")
    plain = Cluster(cluster.name)
    assert (cluster.backend, cluster.ganesha, cluster.exports_dir) == (plain.backend, plain.ganesha, plain.exports_dir)
    empty = Site(site.name, ())
    assert (site.state_dir, site.run_dir) == (empty.state_dir, empty.run_dir)


def test_the_defaults_of_options_that_are_shown_are_those_that_hold() -> None:
    policy = SharePolicy()
    for name in OptionsFile.model_fields:
        setting = setting_at(("shares", "home", name))
        assert setting is not None
        value = getattr(policy, name)
        shown = f"[{', '.join(value)}]" if isinstance(value, tuple) else written(value)
        assert setting.default in (shown, "(the server's nobody)" if value is None else shown)


def test_the_json_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert all(each["additionalProperties"] is False for each in sections if each.get("type") == "object")
    for each in sections:
        for part in _parts(each):
            if "patternProperties" in part:
                assert part["additionalProperties"] is False


def test_the_json_schema_knows_switches_and_units() -> None:
    schema = json_schema()
    share = schema["$defs"]["ProjectFile"]["properties"]["shares"]["patternProperties"]
    (value,) = share.values()
    assert {"type": "boolean"} in value["anyOf"]
    assert "pattern" in schema["$defs"]["ExportsFile"]["properties"]["poll"]
    assert {each.get("type") for each in schema["properties"]["projects_file"]["anyOf"]} == {"string", "array"}


def _parts(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)
