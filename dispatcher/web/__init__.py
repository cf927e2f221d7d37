"""The HTTP service: health, readiness, metrics and the status, for probes, Prometheus and the command line.

    app       what is answered, from what it is handed
    server    listening, bounded at the start and at the end

Decides the addresses and what they answer. Knows nothing of how anything it shows came about.
"""

from dispatcher.web.app import Answered, Health, Sources, make_app, names_this_machine
from dispatcher.web.server import WebServer

__all__ = ["Answered", "Health", "Sources", "WebServer", "make_app", "names_this_machine"]
