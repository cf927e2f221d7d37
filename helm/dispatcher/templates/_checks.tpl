{{- /* What the schema cannot say: one line each, with the field and the remedy. */ -}}
{{- define "dispatcher.checks" -}}
{{- $bus := default dict .Values.config.service_bus -}}
{{- $secret := include "dispatcher.connectionSecret" . -}}
{{- if not .Values.config.queues }}{{ fail "config.queues: is empty; name at least one queue, for example {name: work, tasks: [report]}" }}{{ end -}}
{{- if not .Values.tasks }}{{ fail "tasks: is empty; name at least one task, as config/tasks.yaml explains it" }}{{ end -}}
{{- if and .Values.serviceBus.connectionString .Values.serviceBus.existingSecret.name }}{{ fail "serviceBus: names a connection string and a Secret; take one of them out" }}{{ end -}}
{{- if and $secret $bus.namespace }}{{ fail "config.service_bus.namespace: is for identities, and serviceBus gives a connection string; take one of them out" }}{{ end -}}
{{- if not (or $secret $bus.namespace $bus.connection_string_file .Values.settingsSecrets .Values.extraEnv) }}{{ fail "serviceBus: there is no way to the broker; set serviceBus.existingSecret.name, or config.service_bus.namespace with workloadIdentity" }}{{ end -}}
{{- if and $secret $bus.connection_string_file }}{{ fail "config.service_bus.connection_string_file: the chart sets it to where it mounts the Secret of serviceBus; take it out" }}{{ end -}}
{{- if and .Values.workloadIdentity.enabled (not .Values.workloadIdentity.clientId) }}{{ fail "workloadIdentity.clientId: is empty; write the client id of the identity (az identity show --query clientId)" }}{{ end -}}
{{- if and .Values.workloadIdentity.enabled (not $bus.namespace) }}{{ fail "config.service_bus.namespace: is empty; write the host name that the identity opens, for example orders.servicebus.windows.net" }}{{ end -}}
{{- if $bus.connection_string }}{{ fail "config.service_bus.connection_string: is a secret and would stand in a ConfigMap; use serviceBus.existingSecret" }}{{ end -}}
{{- if .Values.config.local }}{{ fail "config.local: is only for a machine of its own; take it out" }}{{ end -}}
{{- range .Values.tolerations }}
{{- if or (not .key) (has .key (list "virtual-kubelet.io/provider" "azure.com/aci")) }}{{ fail "tolerations: one would let the dispatcher onto a virtual node; name other keys" }}{{ end -}}
{{- end -}}
{{- end -}}
