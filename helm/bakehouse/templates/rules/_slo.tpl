{{/* Failed requests and slow predictions over each window. /readyz answers 503 while a pod drains, which is not a failure. */}}
{{- define "bakehouse.rules.slo" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $bucket := include "bakehouse.rules.latencyBucket" . }}
{{- $requests := "bakehouse_http_requests_total" }}
{{- $duration := "bakehouse_http_request_duration_seconds" }}
{{- range $windows := list (list "5m" "30m" "1h" "2h" "6h") (list "1d" "3d") }}
- name: slo-{{ first $windows }}
  {{- if has "1d" $windows }}
  interval: 2m
  {{- end }}
  rules:
  {{- range $windows }}
    - record: bakehouse:http_requests:failed_increase{{ . }}
      expr: |-
        sum by (namespace, release) (increase({{ $requests }}{ {{- $ours }}, route!="/readyz", status="5xx"}[{{ . }}]))
          or 0 * sum by (namespace, release) (up{ {{- $ours }}})
    - record: bakehouse:http_requests:ratio_failed_rate{{ . }}
      expr: |-
        bakehouse:http_requests:failed_increase{{ . }}{ {{- $ours }}}
          / clamp_min(
            sum by (namespace, release) (increase({{ $requests }}{ {{- $ours }}, route!="/readyz"}[{{ . }}]))
              or bakehouse:http_requests:failed_increase{{ . }}{ {{- $ours }}},
            1e-9)
    - record: bakehouse:predict_latency:slow_increase{{ . }}
      expr: |-
        clamp_min(
          sum by (namespace, release) (increase({{ $duration }}_count{ {{- $ours }}, route="/predict"}[{{ . }}]))
            - sum by (namespace, release) (increase({{ $duration }}_bucket{ {{- $ours }}, route="/predict", le="{{ $bucket }}"}[{{ . }}])),
          0)
          or 0 * sum by (namespace, release) (up{ {{- $ours }}})
    - record: bakehouse:predict_latency:ratio_slow_rate{{ . }}
      expr: |-
        bakehouse:predict_latency:slow_increase{{ . }}{ {{- $ours }}}
          / clamp_min(
            sum by (namespace, release) (increase({{ $duration }}_count{ {{- $ours }}, route="/predict"}[{{ . }}]))
              or bakehouse:predict_latency:slow_increase{{ . }}{ {{- $ours }}},
            1e-9)
  {{- end }}
{{- end }}
{{- end }}
