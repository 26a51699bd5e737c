"""Run `python -m MedFMLib.execution.server`: its options, its token, and its messages to a parent process.

With --child, the token is read as one line from stdin, {"token": …}; once requests are answered, one line is written to
stdout, {"port": …, "pid": …}; and when stdin ends, the server ends with all processes that it started.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import fields
from pathlib import Path

from ...errors import InputError, MedFMError
from .logs import limit_lines
from .settings import ServerLimits, ServerSettings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m MedFMLib.execution.server", description=__doc__.splitlines()[0])
    options.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; addresses that other machines can reach need TLS"
    )
    options.add_argument("--port", type=int, default=0, help="0 for any free port")
    options.add_argument("--keys", type=Path, help="file with a line 'name key' for each client that may connect")
    options.add_argument("--certificate", type=Path, help="PEM file")
    options.add_argument("--private-key", type=Path, help="PEM file")
    options.add_argument("--interpreter", default="", help="Python interpreter for the worker process, if not this one")
    options.add_argument("--compute", default="", help=argparse.SUPPRESS)
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--verbose", action="store_true", help="log each request's route and status")
    for limit in fields(ServerLimits):
        name = f"--{limit.name.replace('_', '-')}"
        options.add_argument(name, type=type(limit.default), default=limit.default, help=argparse.SUPPRESS)
    return options


def settings_from(options: argparse.Namespace) -> ServerSettings:
    """Return the settings that the options describe.

    Raises:
        InputError: if a value is not allowed.
    """
    limits = ServerLimits(**{limit.name: getattr(options, limit.name) for limit in fields(ServerLimits)})
    return ServerSettings(
        options.host,
        options.port,
        options.keys,
        options.certificate,
        options.private_key,
        limits,
        ("--compute", options.compute) if options.compute else (),
        options.interpreter,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the server."""
    options = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    limit_lines()
    try:
        settings = settings_from(options)
        try:
            from .serving import serve
        except ImportError as error:
            raise InputError(
                f"The server needs the Python package '{error.name}'; install it with pip install 'medfm[server]'."
            ) from error
        if options.child:
            token = json.loads(sys.stdin.readline())["token"]
            serve(settings, {token: "parent"}, _report_to_parent, until_stdin_ends=True)
        else:
            from .keys import fresh_token

            token = "" if settings.keys else fresh_token()
            serve(settings, {token: "owner"}, lambda port: _print_address(settings, port, token))
    except MedFMError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _report_to_parent(port: int) -> None:
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)


def _print_address(settings: ServerSettings, port: int, token: str) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"MedFM listens on {settings.scheme}://{host}:{port}", flush=True)
    if token:
        print(f"Key for this run: {token}", flush=True)


if __name__ == "__main__":
    main()
