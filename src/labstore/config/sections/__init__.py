"""The sections of the site file that belong to a room, each with its checks and its way to the model."""
