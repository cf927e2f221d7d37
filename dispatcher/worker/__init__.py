"""The worker kit: what runs inside a pod that carries several items, around a program that knows nothing of it.

    python -m dispatcher.worker [options] -- COMMAND [ARGS...]

It runs the command once an item, one item after another, and reports each outcome as it happens; docs/worker.md has the
protocol. It needs Python 3.9 and nothing else: no file of this room imports anything but the standard library and its
neighbours here, so that it can be taken into any image, as a folder or as one file (`dispatcher worker-kit`).

    pod           what the pod was given: its share of the items, its deadline, its fencing token
    running       one run of the command: its output passed on, its end brought about, nothing left behind
    service_bus   how a report travels: connection string, signature, one POST
    reporting     that every report arrives: in the background, repeated, kept until it is accepted
    kit           the order of it all, and what SIGTERM and the deadline mean
"""
