{{/*
Burn rate alerts. Each fires when the long window spends the given share of the error budget of slo.days, and the short window
still does. The rate is at least 1, which spends the budget exactly in slo.days. A failure ratio of 0.9 always fires.
*/}}
{{- define "bakehouse.rules.burn" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $slo := .Values.slo }}
{{- $share := "{{ $value | humanizePercentage }}" }}
{{- $release := "{{ $labels.release }}" }}
{{- $windows := `
- {severity: page, long: 1h, short: 5m, for: 2m, hours: 1, spends: 0.02}
- {severity: page, long: 6h, short: 30m, for: 15m, hours: 6, spends: 0.05}
- {severity: ticket, long: 1d, short: 2h, for: 1h, hours: 24, spends: 0.1}
- {severity: ticket, long: 3d, short: 6h, for: 3h, hours: 72, spends: 0.1}
` | fromYamlArray }}
- name: burn
  rules:
  {{- range $windows }}
    {{- $burn := divf (mulf .spends $slo.days 24) .hours | maxf 1 }}
    {{- $failing := subf 1 $slo.availability | mulf $burn | minf 0.9 }}
    {{- $slow := subf 1 $slo.latency | mulf $burn | minf 0.9 }}
    - alert: BakehouseErrorBudgetBurn
      expr: |-
        bakehouse:http_requests:ratio_failed_rate{{ .long }}{ {{- $ours }}} > {{ $failing }}
          and bakehouse:http_requests:ratio_failed_rate{{ .short }}{ {{- $ours }}} > {{ $failing }}
          and bakehouse:http_requests:failed_increase{{ .long }}{ {{- $ours }}} >= {{ $slo.minimumFailures }}
      for: {{ .for }}
      keep_firing_for: 5m
      labels: {severity: {{ .severity }}, long: {{ .long }}, short: {{ .short }}}
      annotations:
        summary: Too many requests fail.
        description: >-
          {{ $share }} of the requests to {{ $release }} failed within {{ .long }}.
          The objective allows {{ subf 1 $slo.availability | mulf 100 }}%.
    - alert: BakehouseLatencyBudgetBurn
      expr: |-
        bakehouse:predict_latency:ratio_slow_rate{{ .long }}{ {{- $ours }}} > {{ $slow }}
          and bakehouse:predict_latency:ratio_slow_rate{{ .short }}{ {{- $ours }}} > {{ $slow }}
          and bakehouse:predict_latency:slow_increase{{ .long }}{ {{- $ours }}} >= {{ $slo.minimumFailures }}
      for: {{ .for }}
      keep_firing_for: 5m
      labels: {severity: {{ .severity }}, long: {{ .long }}, short: {{ .short }}}
      annotations:
        summary: Too many predictions are slow.
        description: >-
          {{ $share }} of the predictions of {{ $release }} took longer than {{ $slo.latencySeconds }} s within {{ .long }}.
          The objective allows {{ subf 1 $slo.latency | mulf 100 }}%.
  {{- end }}
{{- end }}
