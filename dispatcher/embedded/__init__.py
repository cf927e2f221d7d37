"""The local default: a broker, a cluster of processes and an object store on one machine, behind the ports."""
