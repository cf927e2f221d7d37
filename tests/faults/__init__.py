"""The queue's adapter under fire: each of the broker's faults during a burst, and what came of the items.

    python -m tests.faults                      all faults, 5,000 items waiting, each fault fired 20 times and more
    python -m tests.faults --fault throttle     one of them (may be given several times)

instant          a cluster whose Jobs end as soon as they are looked at, and a store in memory
burst            the real reconciler and the real adapter over both, with the /healthz of the real service
broker_process   the embedded broker in a process of its own, and its fault controls over HTTP
firing           how each fault is fired, and until when
arrivals         items that go on coming, whatever the broker says to their sender
rates            throughput from counts: before, recovery, ratio (pure)
referee          what must have become of the items, judged by the broker's counts (pure)
trial            one fault from the first item to the verdict
report           the table: for terminals, for the documentation, for machines
"""
