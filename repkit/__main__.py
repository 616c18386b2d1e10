"""Run the command line as ``python -m repkit``."""

from repkit.cli import main

if __name__ == "__main__":
    main()
