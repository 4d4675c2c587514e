"""Instances of the cloud: network namespaces on the client machine, each an NFS client of its own."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.layout import FRONT, MTU, SERVICE
from tests.lab.machine import Machine
from tests.lab.ssh import Result

OPTIONS = "vers=4.2,proto=tcp,hard,retry=0"


@dataclass(frozen=True)
class Instance:
    """One instance on `machine`."""

    machine: Machine
    name: str
    address: str

    def create(self) -> Instance:
        """A namespace with an interface on the front network, known to servers by its own NFS client name."""
        link = f"mv-{self.name}"[:15]
        self.machine.run(
            f"ip netns add {self.name}; "
            f"ip link add link {self.machine.device(FRONT)} name {link} type macvlan mode bridge; "
            f"ip link set {link} netns {self.name} mtu {MTU}; ip -n {self.name} link set lo up; "
            f"ip -n {self.name} address add {self.address}/24 dev {link}; ip -n {self.name} link set {link} up; "
            f"modprobe nfs; mkdir -p {self.mount_point}; "
            f"ip netns exec {self.name} sh -c 'echo {self.name} >/sys/fs/nfs/net/nfs_client/identifier'"
        )
        return self

    @property
    def mount_point(self) -> str:
        return f"/mnt/{self.name}"

    def mount(self, path: str, server: str = SERVICE, deadline: float = 30, check: bool = True) -> Result:
        """Mount a share, as the instance's own mount does."""
        line = f"mount -t nfs4 -o {OPTIONS} {server}:{path} {self.mount_point}"
        return self.machine.run(f"nsenter --net=/run/netns/{self.name} {line}", deadline, check)

    def run(self, command: str, deadline: float = 30, check: bool = True) -> Result:
        """A bash line in its share."""
        return self.machine.run(f"cd {self.mount_point} && {command}", deadline, check)
