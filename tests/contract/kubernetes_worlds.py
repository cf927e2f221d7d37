"""The worlds of a real API server, Job controller and scheduler, with nodes that KWOK plays.

Pods do what their annotations say and run no code: an act's ``reads`` counts as done, a log is what the testbed serves
for the pod. Every world has a namespace of its own on the worker's control plane, which is empty again when it ends.
"""

from __future__ import annotations



