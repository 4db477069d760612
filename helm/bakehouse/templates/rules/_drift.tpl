{{/* Drift: shares of rows by bin, now and in the training data. The PSI counts shares below 0.0001 as 0.0001. */}}
{{- define "bakehouse.rules.drift" -}}
- name: drift
  rules:
    {{- include "bakehouse.rules.driftRecords" . | nindent 4 }}
    {{- include "bakehouse.rules.driftAlerts" . | nindent 4 }}
{{- end }}

{{- define "bakehouse.rules.driftRecords" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $window := .Values.metrics.rules.drift.window }}
{{- $subjects := list (dict "name" "feature" "by" "namespace, release, version, feature") }}
{{- $subjects = append $subjects (dict "name" "prediction" "by" "namespace, release, version") }}
{{- range $subjects }}
- record: bakehouse:{{ .name }}_bin_ratio
  expr: |-
    sum by ({{ .by }}, bin, kind) (increase(bakehouse_{{ .name }}_rows_total{ {{- $ours }}}[{{ $window }}]))
      / on ({{ .by }}) group_left ()
        (sum by ({{ .by }}) (increase(bakehouse_{{ .name }}_rows_total{ {{- $ours }}}[{{ $window }}])) > 0)
- record: bakehouse:{{ .name }}_reference_ratio
  expr: |-
    max by ({{ .by }}, bin, kind) (bakehouse_{{ .name }}_reference_ratio{ {{- $ours }}})
{{- end }}
{{- range $subjects }}
- record: bakehouse:{{ .name }}_drift_rows
  expr: |-
    sum by ({{ .by }}) (increase(bakehouse_{{ .name }}_rows_total{ {{- $ours }}}[{{ $window }}]))
{{- end }}
{{- range $subjects }}
{{- $p := printf "bakehouse:%s_bin_ratio{%s}" .name $ours }}
{{- $q := printf "bakehouse:%s_reference_ratio{%s}" .name $ours }}
- record: bakehouse:{{ .name }}_drift_psi
  expr: |-
    sum by ({{ .by }}) (
      (clamp_min({{ $p }}, 0.0001) - clamp_min({{ $q }}, 0.0001))
        * ln(clamp_min({{ $p }}, 0.0001) / clamp_min({{ $q }}, 0.0001)))
- record: bakehouse:{{ .name }}_drift_js_distance
  expr: |-
    sqrt(clamp_min(sum by ({{ .by }}) (
      {{ $p }} * log2(clamp_min({{ $p }}, 1e-12) / clamp_min(({{ $p }} + {{ $q }}) / 2, 1e-12))
        + {{ $q }} * log2(clamp_min({{ $q }}, 1e-12) / clamp_min(({{ $p }} + {{ $q }}) / 2, 1e-12))) / 2, 0))
{{- end }}
{{- range list "missing" "outside" "unknown" }}
- record: bakehouse:feature_{{ . }}_ratio
  expr: |-
    sum by (namespace, release, version, feature) (bakehouse:feature_bin_ratio{ {{- $ours }}, kind="{{ . }}"})
{{- end }}
{{- end }}

{{- define "bakehouse.rules.driftAlerts" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $drift := .Values.metrics.rules.drift }}
{{- $release := "{{ $labels.release }}" }}
{{- $version := "{{ $labels.version }}" }}
{{- $psi := `{{ $value | printf "%.2f" }}` -}}
- alert: BakehouseFeatureDrift
  expr: |-
    bakehouse:feature_drift_psi{ {{- $ours }}} > {{ $drift.psi }}
      and bakehouse:feature_drift_rows{ {{- $ours }}} >= {{ int64 $drift.minimumRows }}
  for: 30m
  keep_firing_for: 30m
  labels: {severity: ticket}
  annotations:
    summary: Feature values differ from the training data.
    description: >-
      The values of {{`{{ $labels.feature }}`}} in requests to {{ $release }} differ from the training data of version
      {{ $version }}: PSI {{ $psi }} over {{ $drift.window }}.
- alert: BakehousePredictionDrift
  expr: |-
    bakehouse:prediction_drift_psi{ {{- $ours }}} > {{ $drift.psi }}
      and bakehouse:prediction_drift_rows{ {{- $ours }}} >= {{ int64 $drift.minimumRows }}
  for: 30m
  keep_firing_for: 30m
  labels: {severity: ticket}
  annotations:
    summary: Predictions differ from those on the training data.
    description: >-
      The predictions of {{ $release }} differ from those of version {{ $version }} on its training data:
      PSI {{ $psi }} over {{ $drift.window }}.
{{- end }}
