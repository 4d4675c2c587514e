"""Measured processes: each prints one line of JSON."""
