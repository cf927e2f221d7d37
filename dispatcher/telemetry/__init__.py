"""What the dispatcher tells: log lines, the event log, metrics.

    logs       how log lines look, and what never stands in them
    events     the decision event log, and the hub through which every event goes
    metrics    counters, gauges and histograms, kept from the same events and the status

Decides how things are told. Knows nothing of why they happened; nothing here can fail the one who tells.
"""

from dispatcher.telemetry.events import EVENT_FORMAT, EventFile, EventHub, LoggedEvents
from dispatcher.telemetry.logs import configure_logs
from dispatcher.telemetry.metrics import Metrics

__all__ = ["EVENT_FORMAT", "EventFile", "EventHub", "LoggedEvents", "Metrics", "configure_logs"]
