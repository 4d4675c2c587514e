"""The only thing a test says about time: that something did not hang. Speed is measured in bench/."""

HANGS = 60.0
"""Seconds after which something that should end by itself is taken to hang, also on a busy machine."""
