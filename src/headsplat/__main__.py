"""`python -m headsplat`: the command line."""

from headsplat.cli import main

if __name__ == "__main__":
    main()
