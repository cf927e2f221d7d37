"""What a place can run: the judge of pod manifests, ours and anybody's.

    workloads   a document -> the pod that it makes, with the path of every field
    findings    a finding; the register of rules
    placing, storage, running, sizes, variables, jobs   the rules themselves, by what they look at
    verdict     all rules of a profile over one workload
    profiles    the profiles that are shipped, and the operator's own, as YAML
    reading     YAML text -> documents

Decides whether a manifest fits a placement, and says for each thing that does not: where, why, what to do, and who
says so. Which rules hold where, and how strictly, is data: a profile names them. Apart from `profiles`, which reads its
files, nothing here does I/O. Knows nothing of clusters, settings or commands.
"""

from dispatcher.judge import (  # noqa: F401 - importing them registers their rules
    jobs,
    placing,
    running,
    sizes,
    storage,
    variables,
)
from dispatcher.judge.findings import RULES, Effect, Finding, Level, Rule
from dispatcher.judge.profiles import BadProfile, Profile, known_profiles, profile_of, read_profile
from dispatcher.judge.reading import Unreadable, documents_of
from dispatcher.judge.verdict import findings_of
from dispatcher.judge.workloads import Workload, workload_of

__all__ = [
    "BadProfile",
    "Effect",
    "Finding",
    "Level",
    "Profile",
    "RULES",
    "Rule",
    "Unreadable",
    "Workload",
    "documents_of",
    "findings_of",
    "known_profiles",
    "profile_of",
    "read_profile",
    "workload_of",
]
