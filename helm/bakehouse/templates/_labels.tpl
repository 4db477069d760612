{{/* Labels and selectors. */}}

{{/* Selects the release's objects. Never change it: the selector of a Deployment is immutable. */}}
{{- define "bakehouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bakehouse.chartName" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "bakehouse.serverSelector" -}}
{{ include "bakehouse.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "bakehouse.labels" -}}
{{- include "bakehouse.componentLabels" (dict "root" .) -}}
{{- end }}

{{/* The labels of an object of one component. Takes root and component. */}}
{{- define "bakehouse.componentLabels" -}}
{{- $own := include "bakehouse.selectorLabels" .root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end -}}
{{- with .root.Values.image.tag }}{{ $_ := set $own "app.kubernetes.io/version" . }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) $own) -}}
{{- end }}

{{/* The labels of a pod, without the chart's version: a new chart alone must not replace pods. Takes root and component. */}}
{{- define "bakehouse.podLabels" -}}
{{- $own := include "bakehouse.selectorLabels" .root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" .component -}}
{{- with .root.Values.image.tag }}{{ $_ := set $own "app.kubernetes.io/version" . }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy .root.Values.podLabels) $own) -}}
{{- end }}
