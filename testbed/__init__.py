"""The real counterparts that tests and benchmarks run the dispatcher against: a Kubernetes control plane on loopback.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones, unmodified, from one file that is
built once a machine (:mod:`testbed.binary`). Nodes are played by KWOK: pods take the phases that they would take, for
as long as they are told to (:mod:`testbed.behaviour` has the table), but run no code.

    async with ControlPlane.started() as plane:
        await plane.create_nodes(real_node("node-1"), virtual_node())
        await plane.create_namespace("work")
        token = await plane.create_token("work", "dispatcher")
        print(await plane.kubectl("get", "nodes"))

In a suite: ``from testbed.fixtures import control_plane, namespace`` in its conftest gives the fixtures of those names.
For a person: ``make testbed``. Nothing of the product imports this package, and it imports nothing of the product.
"""
