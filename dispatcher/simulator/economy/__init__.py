"""A coarse, fast world in which money and waits are compared: seconds instead of acts, nothing fails but Spot nodes.

    workload    what arrives, when, and how long it runs: drawn from a seed
    traces      the same, read from an event log or from CSV
    nodes       a node pool that an autoscaler starts and removes, billed by the second
    world       the clock, the waiting work, the pods, what everything costs
    production  the product itself in that world: the plan, the ledger and the experience of `core`
    results     what is told of a run

Decides nothing about work: that is the product's, or one of the rules of `simulator.policies`.
"""
