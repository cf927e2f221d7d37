"""The burst dispatcher: bursts on an Azure Service Bus queue become parallel Kubernetes Jobs, within budgets."""

__version__ = "0.1.0"
