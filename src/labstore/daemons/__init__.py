"""Main loops: signals set flags, the supervisor hears ready and stopping, a cycle is one function."""
