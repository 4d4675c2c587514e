"""Our hands on a host: processes, files, locks, then one module per program."""
