{{/*
Whether the Prometheus objects of the cluster select the release's monitor and rules, and if not, which label is missing.
NOTES.txt prints the result.
*/}}

{{- define "bakehouse.prometheusHints" -}}
{{- $root := . -}}
{{- $objects := list -}}
{{- with .Values.metrics.monitor -}}
{{- if ne .kind "none" -}}
{{- $monitor := dict "object" .kind "selector" (untitle .kind) "labels" .labels "value" "metrics.monitor.labels" -}}
{{- $objects = append $objects $monitor -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics.rules -}}
{{- if .enabled -}}
{{- $rules := dict "object" "PrometheusRule" "selector" "rule" "labels" .labels "value" "metrics.rules.labels" -}}
{{- $objects = append $objects $rules -}}
{{- end -}}
{{- end -}}
{{- if and $objects .Values.metrics.monitor.lookup (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/Prometheus") -}}
{{- range $prometheus := include "bakehouse.prometheuses, unless metrics.monitor.lookup is false" . | fromJsonArray -}}
{{- range $objects -}}
{{- $labels := mergeOverwrite (include "bakehouse.labels" $root | fromYaml) .labels -}}
{{- $problems := include "bakehouse.selectionProblems" (merge (dict "root" $root "prometheus" $prometheus "labels" $labels) .) }}
Prometheus {{ $prometheus.metadata.namespace }}/{{ $prometheus.metadata.name }} {{ if $problems }}does not select
{{- else }}selects{{ end }} the {{ .object }}.
{{- $problems }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* All Prometheus objects of the cluster, as JSON. If the user may not list them, Helm's error message has this name. */}}
{{- define "bakehouse.prometheuses, unless metrics.monitor.lookup is false" -}}
{{- (lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items | default list | toJson -}}
{{- end }}

{{/*
Why a Prometheus does not select an object of the release, one sentence for each reason. Takes root, prometheus, object
(its kind), selector (the field of the Prometheus, without Selector), labels (of the object) and value (of the chart, which
adds labels).
*/}}
{{- define "bakehouse.selectionProblems" -}}
{{- include "bakehouse.namespaceProblems" . -}}
{{- $value := .value -}}
{{- $selector := get .prometheus.spec (printf "%sSelector" .selector) -}}
{{- if not (kindIs "map" $selector) }}
It has no {{ .selector }}Selector, so it selects no {{ .object }}: set one, {} for all.
{{- else -}}
{{- $missing := include "bakehouse.missingLabels" (dict "selector" $selector "labels" .labels) | fromJson -}}
{{- range $key, $required := $missing.add }}
It requires the label {{ $key }}={{ $required }}. Add it with:
  --set-string '{{ $value }}.{{ $key | replace "." "\\." }}={{ $required }}'
{{- end }}
{{- range $missing.drop }}
It excludes a {{ $.object }} with this value of the label {{ . }}: change its {{ $.selector }}Selector.
{{- end }}
{{- end -}}
{{- end }}

{{- define "bakehouse.namespaceProblems" -}}
{{- $own := .root.Release.Namespace -}}
{{- $selector := get .prometheus.spec (printf "%sNamespaceSelector" .selector) -}}
{{- if not (kindIs "map" $selector) -}}
{{- if ne $own .prometheus.metadata.namespace }}
It selects from its own namespace only: set its {{ .selector }}NamespaceSelector, {} for all namespaces.
{{- end }}
{{- else -}}
{{- $labels := dict "kubernetes.io/metadata.name" $own -}}
{{- $missing := include "bakehouse.missingLabels" (dict "selector" $selector "labels" $labels) | fromJson -}}
{{- if or $missing.drop (hasKey $missing.add "kubernetes.io/metadata.name") }}
It does not select from the namespace {{ $own }}: change its {{ .selector }}NamespaceSelector.
{{- else }}
{{- range $key, $required := $missing.add }}
It selects from labeled namespaces only. If {{ $own }} lacks the label, add it:
  kubectl label namespace {{ $own }} {{ $key }}={{ $required }}
{{- end }}
{{- end }}
{{- end -}}
{{- end }}

{{/* The change that makes labels match a label selector, as JSON {add: {label: value}, drop: [label]}. Takes selector and labels. */}}
{{- define "bakehouse.missingLabels" -}}
{{- $labels := .labels -}}
{{- $add := dict -}}
{{- $drop := list -}}
{{- range $key, $value := .selector.matchLabels -}}
{{- if ne (get $labels $key) $value }}{{ $_ := set $add $key $value }}{{ end -}}
{{- end -}}
{{- range .selector.matchExpressions -}}
{{- $present := hasKey $labels .key -}}
{{- $listed := and $present (has (get $labels .key) (default list .values)) -}}
{{- if and (eq .operator "In") (not $listed) }}{{ $_ := set $add .key (first .values) }}{{ end -}}
{{- if and (eq .operator "Exists") (not $present) }}{{ $_ := set $add .key "true" }}{{ end -}}
{{- if and (eq .operator "NotIn") $listed }}{{ $drop = append $drop .key }}{{ end -}}
{{- if and (eq .operator "DoesNotExist") $present }}{{ $drop = append $drop .key }}{{ end -}}
{{- end -}}
{{- dict "add" $add "drop" $drop | toJson -}}
{{- end }}
