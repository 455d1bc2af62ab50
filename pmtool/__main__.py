"""Entry point of ``python -m pmtool``."""

from pmtool.main import main

if __name__ == "__main__":
    main()
