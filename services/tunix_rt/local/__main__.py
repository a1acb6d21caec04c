"""The supervisor as a process of its own (``tunix-rt up --detach`` starts it): runs until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tunix_rt.errors import TunixError
from tunix_rt.local.foreground import run_until_signalled
from tunix_rt.local.services import parse_services
from tunix_rt.local.settings import LocalSettings
from tunix_rt.local.supervisor import LocalPlatform


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tunix_rt.local", description=__doc__)
    parser.add_argument("--home", type=Path, default=LocalSettings().home)
    parser.add_argument("--free-ports", action="store_true")
    parser.add_argument("--services", nargs="*", default=[], metavar="NAME[=COUNT]")
    options = parser.parse_args(arguments)
    try:
        platform = LocalPlatform(
            options.home,
            ports="free" if options.free_ports else "default",
            service_counts=parse_services(options.services),
            on_status=lambda part, status: print(f"{part}: {status}", flush=True),
        )
        run_until_signalled(platform)
    except TunixError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
