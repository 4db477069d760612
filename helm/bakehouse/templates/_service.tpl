{{/* The Services, and their ports in the cluster. */}}

{{/* The Service of the health port. It is separate if the API is published, because metrics must stay inside the cluster. */}}
{{- define "bakehouse.healthServiceName" -}}
{{- include "bakehouse.name" . }}{{ if ne .Values.service.type "ClusterIP" }}-health{{ end }}
{{- end }}

{{/* A port of the installed release with its service, as JSON: {} if there is none. Takes root and name. */}}
{{- define "bakehouse.livePort" -}}
{{- $port := dict -}}
{{- $root := .root -}}
{{- $name := .name -}}
{{- range $suffix := list "" "-health" -}}
{{- $service := printf "%s%s" (include "bakehouse.name" $root) $suffix -}}
{{- range dig "spec" "ports" list (lookup "v1" "Service" $root.Release.Namespace $service) -}}
{{- if eq .name $name }}{{ $port = merge (dict "service" $service) . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $port -}}
{{- end }}
