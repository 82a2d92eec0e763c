"""What every test may rely on, however the test run itself was started."""

from __future__ import annotations

import signal

# A run that was started in the background of a shell ignores Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
