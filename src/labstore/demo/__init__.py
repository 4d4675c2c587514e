"""The main job on one machine: a small site on loopback, with a real NFS server and real clients."""
