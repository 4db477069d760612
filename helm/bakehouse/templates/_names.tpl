{{/* Names of the release, its image and its ServiceAccount. */}}

{{- define "bakehouse.chartName" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* The name of most objects. 50 characters leave room for suffixes such as -gate in a label value, which has at most 63. */}}
{{- define "bakehouse.name" -}}
{{- $chart := include "bakehouse.chartName" . -}}
{{- $name := contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{- default $name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "bakehouse.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{- define "bakehouse.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "bakehouse.name" .) "default") .Values.serviceAccount.name -}}
{{- end }}
