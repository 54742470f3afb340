"""The console script and `python -m genctl`: Ctrl-C is one line and exit code 130 from the first import on."""

import os


def run() -> None:
    """Import the command line, which takes a fifth of a second, and run it."""
    try:
        from genctl.cli.main import run as command

        command()
    except KeyboardInterrupt:
        os.write(2, b"genctl: interrupted\n")
        os._exit(130)


if __name__ == "__main__":
    run()
