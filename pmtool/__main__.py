"""Entry point of ``pmtool`` and ``python -m pmtool``; interrupting the imports is handled too."""

import sys


def main() -> None:
    """Run the ``pmtool`` command and exit with its code."""
    try:
        from pmtool.main import main as run

        run()
    except KeyboardInterrupt:  # before or after `pmtool.cli.console.run_command` handles it
        sys.stderr.write("pmtool: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
