"""`python -m genctl`."""

from genctl.cli.main import run

run()
