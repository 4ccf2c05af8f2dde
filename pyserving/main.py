"""The command: read flags, start a ModelServer, and stop it in good order when a signal asks for it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pyserving import logs, machine, options
from pyserving.errors import ServingError
from pyserving.model_server import ModelServer
from pyserving.options import Options

_log = logging.getLogger(__name__)
_FAILED = 255
"""As `return -1` of tensorflow_model_server's main leaves."""
_OPEN_FILES = 1 << 16
SWITCH_SECONDS = 0.001
"""How long a thread that computes, as a load's does at times, keeps the event loop from the GIL whenever that has let
it go. Python's own 5 ms come several times in one turn of the loop."""
_ONE_SIGNAL_SECONDS = 0.2
"""Supervisors signal a process and its group in one go; what comes together is one wish to stop."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script. Leaves the process with TensorFlow Serving's exit status."""
    status = run(sys.argv[1:] if argv is None else argv)
    _leave(status)


def run(argv: Sequence[str]) -> int:
    """Serve until a signal comes; gives the exit status."""
    # TensorFlow's own chatter about the processor, which hides the lines that matter; set the variable to see it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    parsed = options.parse(argv, os.path.basename(sys.argv[0]))
    print(parsed.stderr, end="", file=sys.stderr)
    print(parsed.stdout, end="", flush=True)
    if parsed.exit_status is not None:
        return parsed.exit_status
    machine.allow_open_files(_OPEN_FILES)
    machine.keep_free_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        options.validate(parsed.options)
        logs.configure(parsed.options.log_format, parsed.options.log_level)
        if warning := options.startup_warning(parsed.given):
            _log.warning("%s", warning)
        # Not asyncio.run, which waits for what the grace period left behind.
        return _new_event_loop().run_until_complete(_serve(parsed.options, parsed.given))
    except ServingError as error:
        print(f"Failed to start server. Error: {error.status}", flush=True)
        return _FAILED
    except Exception as error:  # nothing that a flag or a file can bring about, but the line is what supervisors read
        _log.exception("The server broke down")
        print(f"Failed to start server. Error: INTERNAL: {type(error).__name__}: {error}", flush=True)
        return _FAILED


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one: a turn of it costs a fraction of asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(settings: Options, given: frozenset[str]) -> int:
    """Start, wait for a signal or a failure, drain."""
    stop = asyncio.Event()
    _stop_on_signals(stop)
    server = ModelServer(settings, given)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting  # raises what went wrong
            failing = asyncio.create_task(server.failed())
            await asyncio.wait({failing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                raise failing.result()
            failing.cancel()
        else:
            starting.cancel()
        return 0
    finally:
        stopping.cancel()
        await server.stop()


def _leave(status: int) -> NoReturn:
    """Not sys.exit: a run that outlived the grace period may still be in a thread of TensorFlow's, and taking the
    interpreter down around it can crash or wait for ever."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT drains, the second leaves at once."""
    loop = asyncio.get_running_loop()
    first_came: float | None = None

    def on_signal(number: signal.Signals) -> None:
        nonlocal first_came
        if first_came is None:
            first_came = loop.time()
            _log.info("%s: finishing what was admitted", number.name)
            stop.set()
        elif loop.time() - first_came > _ONE_SIGNAL_SECONDS:
            _log.warning("%s again: leaving at once", number.name)
            _leave(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
