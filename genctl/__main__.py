"""The console script and `python -m genctl`: Ctrl-C is one line and exit code 130 from the first import on."""

import os
import sys


def run() -> None:
    """Import the command line, which takes a fifth of a second, and run it."""
    try:
        from genctl.cli.main import run as command

        if sys.stdout is not None:  # a file's name goes out as the bytes it has, also where they are no UTF-8
            sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        command()
    except KeyboardInterrupt:
        os.write(2, b"genctl: interrupted\n")
        os._exit(130)


if __name__ == "__main__":
    run()
