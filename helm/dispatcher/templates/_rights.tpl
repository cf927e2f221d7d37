{{- /* What the dispatcher may do: the verbs of dispatcher/cluster/rights.py and no other; a test compares them. */ -}}

{{- /* In its own namespace: the ledger, who leads. */ -}}
{{- define "dispatcher.rights.own" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, get, update]
{{- end -}}

{{- /* Records: in each namespace with tasks, and in its own, where one goes whose task is not known any more. */ -}}
{{- define "dispatcher.rights.records" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, get, list, patch, delete]
{{- end -}}

{{- /* In each namespace with tasks, besides: Jobs, pods of our Jobs, the end of a failed pod's log. */ -}}
{{- define "dispatcher.rights.tasks" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, deletecollection]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end -}}

{{- /* In the whole cluster: what nodes have, and what pods take of them. */ -}}
{{- define "dispatcher.rights.cluster" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end -}}
