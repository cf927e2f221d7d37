"""What Azure itself says of container groups: their own times, quotas, what runs without a pod. Optional, read-only.

    config    whose groups, by which endpoint, how often and how long
    arm       one request to Azure Resource Manager: paced, bounded in time, tried again as it asks
    reading   a group and a quota as Azure shows them, read into what decisions need
    account   the AciAccount port: looks by itself and hands over what it has
    probing   whether the rights are there, for ``check-config --server``

Decides nothing of what follows. Sends nothing but GET.
"""

from dispatcher.azure.account import ContainerGroups
from dispatcher.azure.config import AccountConfig
from dispatcher.azure.probing import probe

__all__ = ["AccountConfig", "ContainerGroups", "probe"]
