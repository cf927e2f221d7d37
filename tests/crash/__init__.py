"""The dispatcher in a cluster, killed at each of its writes in turn, and made to work through an API server that fails.

    python -m tests.crash                 a kill after each write, then one before each
    python -m tests.crash --seeds 100     the API server's faults instead, drawn from a seed

burst     forty items that bring about both placements, retries, dead letters and a hold
gate      numbers the writes on their way to the API server, and kills at one of them
spoiling  which faults of the API server a seed switches on
warm      real `dispatcher run` processes, forked from one that has imported everything already
history   every version of every Job, pod and ConfigMap, in the order of the API server's own revisions
laws      what must hold in such a history, and at the broker (pure; imports nothing of the dispatcher)
world     what all runs share: control plane, broker, starter, history
trial     one run, from the first message to the verdict
report    tables, for terminals and for the documentation
"""
