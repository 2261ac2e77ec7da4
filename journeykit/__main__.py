"""`python -m journeykit`."""

from journeykit.cli import main

if __name__ == "__main__":
    main()
