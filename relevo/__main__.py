"""`python -m relevo`."""

from relevo.cli.main import run

run()
