"""``python -m zarrdock``: the command line, where the script ``zarrdock`` is not on the path."""

from zarrdock.cli.main import main

if __name__ == "__main__":
    main()
