"""`python -m modelkit` is `modelkit`."""

from modelkit.cli.app import main

if __name__ == "__main__":
    main()
