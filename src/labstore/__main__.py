"""`python -m labstore` is the command `labstore`."""

from labstore.cli.main import main

if __name__ == "__main__":
    main()
