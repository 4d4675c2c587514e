"""Protocols: what the rooms need of the world. Every implementation passes the Protocol's contract suite."""
