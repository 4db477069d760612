{{/* The objectives of slo, for dashboards of several releases. */}}
{{- define "bakehouse.rules.objectives" -}}
{{- $own := dict "namespace" .Release.Namespace "release" .Release.Name "window" (printf "%vd" .Values.slo.days) -}}
- name: objectives
  rules:
    - record: bakehouse:slo:objective_ratio
      expr: vector({{ .Values.slo.availability }})
      labels: {{ merge (dict "slo" "availability") $own | toJson }}
    - record: bakehouse:slo:objective_ratio
      expr: vector({{ .Values.slo.latency }})
      labels: {{ merge (dict "slo" "latency" "le" (include "bakehouse.rules.latencyBucket" .)) $own | toJson }}
{{- end }}
