"""A stand-in for Azure Container Instances: the container groups of one subscription in one region, metered.

It answers the part of Azure Resource Manager's API that the AKS virtual node's connector and a reader of usage need,
refuses what Azure would in Azure's words, and bills every group by the second. What it decides is in
:mod:`testbed.aci.region` and pure; :mod:`testbed.aci.server` is the process around it. docs/testbed.md lists what it
can be told, over HTTP and by a container's environment.
"""
