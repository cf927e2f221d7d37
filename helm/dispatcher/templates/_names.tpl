{{- /* Names, labels and namespaces: what everything is called, and where it is. */ -}}

{{- define "dispatcher.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "dispatcher.selectorLabels" -}}
app.kubernetes.io/name: burst-dispatcher
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dispatcher.labels" -}}
{{ include "dispatcher.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dispatcher.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "dispatcher.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "dispatcher.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* Where the ledger and the lease are. */ -}}
{{- define "dispatcher.ownNamespace" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- default .Release.Namespace $kubernetes.namespace -}}
{{- end -}}

{{- /* Where Jobs are, or have been: one a line, each once. A task that names no namespace is in "default". */ -}}
{{- define "dispatcher.taskNamespaces" -}}
{{- $kubernetes := default dict .Values.config.kubernetes -}}
{{- $all := list -}}
{{- range .Values.tasks }}{{ $all = append $all (default "default" .namespace) }}{{ end -}}
{{- range default list $kubernetes.former_namespaces }}{{ $all = append $all . }}{{ end -}}
{{- join "\n" ($all | uniq | sortAlpha) -}}
{{- end -}}

{{- define "dispatcher.connectionSecret" -}}
{{- if .Values.serviceBus.existingSecret.name -}}
{{- .Values.serviceBus.existingSecret.name -}}
{{- else if .Values.serviceBus.connectionString -}}
{{- include "dispatcher.fullname" . }}-service-bus
{{- end -}}
{{- end -}}

{{- define "dispatcher.port" -}}
{{- int (default 8480 (default dict .Values.config.service).web_port) -}}
{{- end -}}
