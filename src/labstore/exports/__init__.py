"""Exports: every project's shares, served to exactly its instances."""
