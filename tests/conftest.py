"""What all tests share."""

import signal

# A shell that runs jobs in the background has them ignore Ctrl-C, and what they start too: the tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
