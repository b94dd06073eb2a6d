import signal

import pytest


@pytest.fixture(autouse=True)
def ctrl_c():
    """Let Ctrl-C interrupt, also where a shell has started the tests in the background and they ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
