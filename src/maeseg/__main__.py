"""``python -m maeseg`` is ``maeseg``."""

import sys

from maeseg.utils.distributed import leave_group


def main() -> int:
    """Import and run the command line; its import, too, ends at Ctrl-C with one line."""
    try:
        from maeseg.cli import main

        return main()
    except KeyboardInterrupt:
        print("maeseg: stopped", file=sys.stderr)
        return 130
    finally:
        leave_group()


if __name__ == "__main__":
    sys.exit(main())
