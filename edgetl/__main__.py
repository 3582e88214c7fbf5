"""`python -m edgetl`."""

from edgetl.commands.app import main

if __name__ == "__main__":
    main()
