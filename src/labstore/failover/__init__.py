"""The room that moves the service between the nodes of a pair, and says how the pair is."""
