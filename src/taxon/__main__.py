"""`python -m taxon` is `taxon`."""

from taxon.cli.main import main

if __name__ == "__main__":
    main()
