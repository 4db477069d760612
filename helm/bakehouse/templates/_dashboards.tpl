{{/*
The dashboards, as a JSON list of {path, file, name, namespace}: the path in the chart, the key in the ConfigMap, and the
ConfigMap's name and namespace.
- file is the same in every release. Grafana's sidecar keeps one file of each name, so several releases bring a dashboard
  once. Two files with one uid would stop Grafana from reading any dashboard.
- name begins with the release's namespace if the ConfigMaps go elsewhere, where those of several namespaces meet. A
  namespace has no dot, so no two names are the same. 63 + 1 + 50 + 18 characters are fewer than the 253 of a name.
*/}}
{{- define "bakehouse.dashboards" -}}
{{- $elsewhere := .Values.metrics.dashboards.namespace -}}
{{- $owner := include "bakehouse.name" . -}}
{{- if $elsewhere }}{{ $owner = printf "%s.%s" .Release.Namespace $owner }}{{ end -}}
{{- $namespace := default .Release.Namespace $elsewhere -}}
{{- $dashboards := list -}}
{{- range $path, $_ := .Files.Glob "dashboards/*.json" -}}
{{- $name := printf "%s-dashboard-%s" $owner (base $path | trimSuffix ".json") -}}
{{- $file := printf "bakehouse-%s" (base $path) -}}
{{- $dashboards = append $dashboards (dict "path" $path "file" $file "name" $name "namespace" $namespace) -}}
{{- end -}}
{{- toJson $dashboards -}}
{{- end }}
