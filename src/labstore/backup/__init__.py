"""Backups: jobs, generations, their proof, and how they are looked into and restored."""
