"""labstore: shared storage for the projects of an OpenStack cloud."""

__version__ = "0.1.0"
