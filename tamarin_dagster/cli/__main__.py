"""`python -m tamarin_dagster.cli`."""

from tamarin_dagster.cli import main

if __name__ == "__main__":
    main()
