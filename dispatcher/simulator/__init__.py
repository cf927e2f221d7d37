"""A world behind the ports with a virtual clock: the production reconciler runs in it, thousands of cycles a second.

Nothing here is a second, simpler dispatcher: the reconciler, its stages and the core are the ones that run live. The
world draws workloads, behaviours and faults from a seed; the checkers hold what happened against the laws.
"""
