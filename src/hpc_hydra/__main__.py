"""The command `hpc`."""

from ._command.app import main

if __name__ == "__main__":
    main()
