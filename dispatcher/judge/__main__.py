"""``python -m dispatcher.judge``: the table of all rules, as docs/virtual-node-rules.md has it."""

from dispatcher.judge.table import rules_table

print(rules_table())
