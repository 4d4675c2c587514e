"""Real kernels: two storage nodes and a client, in QEMU. Run with `pytest tests/scenarios`, or `-k NAME`."""
