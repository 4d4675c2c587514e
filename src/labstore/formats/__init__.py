"""Text to model and back, one module per format. Nothing here opens a file or starts a program."""
