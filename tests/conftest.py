"""What holds for every test: Hypothesis without a stopwatch, the same examples in every CI run, and Ctrl-C at work."""

import os
import signal
import threading

from hypothesis import settings

settings.register_profile("emu", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("emu")

# A shell starts background jobs with SIGINT ignored, and our children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
