"""Measurements, as ratios against the obvious alternative in the same run."""
