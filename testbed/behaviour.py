"""What a pod on a KWOK node is told to do: annotations on the Job's pod template, or labels of the same names.

Decides the names and that a value is one that the Stages (``stages.yaml``) can read; knows nothing of clusters. Labels
count too because a task's labels reach its pods while its annotations cannot; an annotation wins over a label.

All names begin with ``testbed.burst-dispatcher.io/``. Each holds for every pod of the template; with ``.INDEX`` behind
it,
for that completion index alone (``exit-code.3``).

| name             | meaning                                                                             | without it |
|------------------|-------------------------------------------------------------------------------------|------------|
| `start-seconds`  | how long it stays Pending on its node; `never`: an image whose pull never ends      | 0          |
| `waiting-reason` | the containers' reason while it waits so: `ImagePullBackOff`, `ContainerCreating`   | the latter |
| `refused`        | it never runs: Failed, `ProviderFailed`, with this message, as on the virtual node  | -          |
| `run-seconds`    | how long it runs; `never`: until it is stopped                                      | 0          |
| `exit-code`      | how it exits; other than 0 is Failed. On a virtual node the code is lost            | 0          |
| `fail-times`     | only so many pods of an index exit so, the next one succeeds (backoffLimitPerIndex) | all        |
| `message`        | the containers' termination message (not on a virtual node), or the eviction's      | empty      |
| `evict-seconds`  | when the kubelet evicts it, after it began to run: `Evicted`, DisruptionTarget      | `never`    |
| `stop-seconds`   | how long it takes to go once it is deleted; `never`: it stays Terminating           | 0          |

The pod's own ``activeDeadlineSeconds`` is kept as a kubelet would. Times count from what the pod did before, or from
the last change of its metadata: changing an annotation of a running pod steers it anew (``run-seconds: "0"`` ends it at
once). A ConfigMap or Secret that it mounts and that is not marked optional must be there when it is to run: else it
waits, and on a virtual node it fails (it does not look again of itself). Not played: what images do, restarts of
containers, init containers.
"""

from __future__ import annotations

PREFIX = "testbed.burst-dispatcher.io/"
NODE_LOST = PREFIX + "node-lost"
"""Set by the testbed on the pods of a node that it kills: whatever they were told, they no longer do anything."""
NEVER = "never"
Seconds = float | str
"""A number of seconds, or ``NEVER``."""


def told(
    *,
    start_seconds: Seconds | None = None,
    waiting_reason: str | None = None,
    refused: str | None = None,
    run_seconds: Seconds | None = None,
    exit_code: int | None = None,
    fail_times: int | None = None,
    message: str | None = None,
    evict_seconds: Seconds | None = None,
    stop_seconds: Seconds | None = None,
    index: int | None = None,
) -> dict[str, str]:
    """Annotations with these values, for all pods or for one completion index; ``|`` puts several together.

    Raises ValueError where a value could not be obeyed (the Stages would take the default without a word).
    """
    values = {
        "start-seconds": _seconds("start_seconds", start_seconds),
        "waiting-reason": waiting_reason,
        "refused": refused,
        "run-seconds": _seconds("run_seconds", run_seconds),
        "exit-code": _number("exit_code", exit_code, 255),
        "fail-times": _number("fail_times", fail_times, 10**6),
        "message": message,
        "evict-seconds": _seconds("evict_seconds", evict_seconds),
        "stop-seconds": _seconds("stop_seconds", stop_seconds),
    }
    suffix = "" if index is None else f".{index}"
    return {f"{PREFIX}{name}{suffix}": value for name, value in values.items() if value is not None}


def _seconds(field: str, value: Seconds | None) -> str | None:
    if value is None or value == NEVER:
        return value
    if isinstance(value, str) or not 0 <= value <= 10**8:
        raise ValueError(f"{field}: {value!r} is neither {NEVER!r} nor a number of seconds from 0 to 10^8")
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _number(field: str, value: int | None, most: int) -> str | None:
    if value is None:
        return None
    if not 0 <= value <= most:
        raise ValueError(f"{field}: {value} is not between 0 and {most}")
    return str(value)
