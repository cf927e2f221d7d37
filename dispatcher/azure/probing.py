"""Whether container groups and quotas can be read as the settings say, in lines for a person. Changes nothing.

Decides what is a mistake and what is merely good to know.
"""

from __future__ import annotations

from dispatcher.azure.arm import NotThere, Refused, ResourceManager
from dispatcher.azure.config import AccountConfig, Token
from dispatcher.azure.reading import group_listed, quotas
from dispatcher.errors import LookFailed


async def probe(config: AccountConfig, token: Token) -> tuple[list[str], list[str]]:
    """What is wrong, and what was found; each a line."""
    wrong, fine = [], []
    async with ResourceManager(config, token) as arm:
        try:
            entries = await arm.pages(config.groups_path)
            ours = [each for raw in entries if (each := group_listed(raw, config.namespaces)) is not None]
            fine.append(f"container groups in {config.resource_group}: {len(entries)}, of this dispatcher: {len(ours)}")
        except Refused as error:
            wrong.append(f"{error}; grant the identity the role Reader on the resource group {config.resource_group}")
        except NotThere as error:
            wrong.append(f"{error}; correct azure.subscription or azure.resource_group")
        except LookFailed as error:
            wrong.append(str(error))
        if config.usages_path is not None:
            try:
                groups, cores = quotas(await arm.pages(config.usages_path))
                fine.append(
                    f"{groups.used} of {groups.limit} groups and {cores.used} of {cores.limit} cores are used in "
                    f"{config.region}"
                )
            except LookFailed as error:
                remedy = "grant the role Reader on the subscription, or leave azure.region out"
                wrong.append(f"{error}; {remedy}")
    return wrong, fine
