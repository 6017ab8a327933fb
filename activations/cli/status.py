"""What the command's exit status says."""

WELL = 0
FAILED = 1
"""A domain's half raised, the simulation could go no further, or xenstore refused a request."""
NOT_TRIED = 2
"""It could not be run at all: usage, a broken file, a backend that cannot work here."""
HUNG_UP = 129
"""The terminal was closed: 128 + SIGHUP."""
INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""
PIPE_GONE = 141
"""The output's reader has gone: 128 + SIGPIPE."""
TERMINATED = 143
"""`kill`: 128 + SIGTERM."""
