{{- define "name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: {{ include "name" . }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/part-of: redis-cache-sync
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "replicasName" -}}
{{ include "name" . | trunc 54 | trimSuffix "-" }}-replicas
{{- end }}

{{- define "adminPortName" -}}
{{ if .Values.adminPort }}admin{{ else }}http{{ end }}
{{- end }}

{{- define "hosts" -}}
{{- $within := printf "%s.%s" (include "name" .) .Release.Namespace }}
{{- $hosts := list (include "name" .) $within (printf "%s.svc" $within) (printf "%s.svc.cluster.local" $within) }}
{{- range list .Values.ingress .Values.route }}
{{- /* The setting knows no wildcards. */}}
{{- if and .enabled (not (contains "*" .host)) }}{{ $hosts = append $hosts .host }}{{ end }}
{{- end }}
{{- uniq $hosts | join "," }}
{{- end }}

{{- /* How probes, metrics and the other replicas ask: what is beside the main port is plain HTTP, always. */}}
{{- define "adminScheme" -}}
{{- if and .Values.settings.HTTP_TLS_CERT (not .Values.adminPort) }}https{{ else }}http{{ end }}
{{- end }}

{{- define "probe" -}}
port: {{ include "adminPortName" . }}
{{- if and .Values.settings.HTTP_TLS_CLIENT_CA (not .Values.adminPort) }}{{ fail "settings.HTTP_TLS_CLIENT_CA needs adminPort: probes have no certificate" }}{{ end }}
{{- if eq (include "adminScheme" .) "https" }}
scheme: HTTPS
{{- end }}
{{- end }}
