"""Every pod template three times over: what was written by hand about it, what the judge says, what the connector does.

`python -m tests.verdicts` tries all of them on a real control plane with the real azure-aci connector and the stand-in
for ACI; what was seen is kept beside the templates, and stands in docs/virtual-node-rules.md.

    templates      the templates, their verdicts by hand, and their twins without what is said to be ignored
    surroundings   what templates refer to: Secrets, ConfigMaps, claims, accounts
    trying         one template on the virtual node: what became of its pods
    report         the table, and where it is written
"""
