"""`python -m portal …`: see portal/cli.py."""
import sys

from engine.cli_packages import run_or_name_package


def _run() -> int:
    from portal.cli import main

    return main()


sys.exit(run_or_name_package(_run))
