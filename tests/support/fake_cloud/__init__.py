"""A cloud on loopback that speaks the part of Keystone's and Nova's HTTP that an inventory uses, traps included.

Its shapes and its behaviour follow tests/captures/openstack; the real one is in tests/openstack. In a test:

    with serving(World()) as cloud:
        cloud.world.boot("tools", "tools-bastion-12", "172.16.1.11")
        OpenStackInventory(cloud.settings(tmp_path), SystemClock())

As a process of its own, for measurements: `python -m tests.support.fake_cloud --projects 1000 --instances 10`.
"""

from tests.support.fake_cloud.server import FakeCloud, serving
from tests.support.fake_cloud.world import REGION, Booted, World

__all__ = ["REGION", "Booted", "FakeCloud", "World", "serving"]
