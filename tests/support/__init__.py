"""Twins of the Protocols and helpers of the tests."""
