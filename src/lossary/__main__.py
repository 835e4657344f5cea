"""`python -m lossary` is `lossary`."""

from lossary.cli.main import main

if __name__ == "__main__":
    main()
