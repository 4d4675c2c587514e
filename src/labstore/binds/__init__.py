"""Directories of shares, and the tree of bind mounts from which a cluster may export them."""
