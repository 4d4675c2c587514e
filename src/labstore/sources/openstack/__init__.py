"""Projects and instances from an OpenStack cloud: one login, all-projects listings, changes in between."""

from labstore.sources.openstack.inventory import OpenStackInventory

__all__ = ["OpenStackInventory"]
