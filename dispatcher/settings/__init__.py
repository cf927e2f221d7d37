"""The settings: two YAML files, the environment and mounted secrets, read once at the door and turned into frozen ones.

    values       how a duration, a quantity, a price or a subnet is written
    models       the sections of dispatcher.yaml, and what each becomes in the core
    kubernetes   the section of that name
    azure        the section of that name
    tasks        the entries of tasks.yaml
    yaml_file    a YAML file with the line of every key
    mistakes     what is wrong, where, and the remedy; one line each
    checks       what only shows when several settings are looked at together
    price_book   what Azure asks for, by region, as data with its date
    placements   the profile of the virtual node, by name or file
    pod_checks   the pods of every task before the judge
    sizing       whether the virtual node holds the bursts, and what a day of it can cost
    loading      all of it in order: `load` for those who run, `examine` for those who check
    broker       a file of its own: what `dispatcher broker serve` is told

Decides what a valid configuration is. Knows nothing of what is done with it.
"""

from dispatcher.settings.loading import Examination, examine, load, merged
from dispatcher.settings.mistakes import Mistake
from dispatcher.settings.models import (
    BudgetSettings,
    LocalSettings,
    QueueSettings,
    Settings,
    VirtualNodeSettings,
)
from dispatcher.settings.tasks import TaskSettings

__all__ = [
    "BudgetSettings",
    "Examination",
    "LocalSettings",
    "Mistake",
    "QueueSettings",
    "Settings",
    "TaskSettings",
    "VirtualNodeSettings",
    "examine",
    "load",
    "merged",
]
