"""The stages of a cycle, one a file. Each acts on the memory of the leader through the ports, in the order that the
protocol asks for, and decides nothing that the core can decide."""
