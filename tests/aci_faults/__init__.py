"""Each fault of Azure Container Instances in turn, during a small burst.

Broker, the real dispatcher in a process of its own, a real control plane, the real azure-aci connector, and the
stand-in for ACI, which runs the pods' programs.

`python -m tests.aci_faults` (`make faults-aci`) ends with 1 where an item was lost or ended twice, where a fault of the
platform was paid for by an item, or where less was charged than was billed.

    cases      what is fired, how often, at which items, and what may come of it
    trial      one case, from the first item to the verdict
    referee    the verdict, from what others counted
    report     the table
"""
