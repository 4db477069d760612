{{/* Alerts about pods: gone, idle, of several versions, restarting, full, or with an old certificate. */}}
{{- define "bakehouse.rules.pods" -}}
- name: pods
  rules:
    {{- include "bakehouse.rules.down" . | nindent 4 }}
    {{- include "bakehouse.rules.trafficGone" . | nindent 4 }}
    {{- include "bakehouse.rules.versionSkew" . | nindent 4 }}
    {{- include "bakehouse.rules.crashLoop" . | nindent 4 }}
    {{- include "bakehouse.rules.saturated" . | nindent 4 }}
    {{- include "bakehouse.rules.certificateExpiring" . | nindent 4 }}
{{- end }}

{{/* A pod's series end with its scrapes. So absent() means: no pod, no pod that answers, or no pod that has loaded its model. */}}
{{- define "bakehouse.rules.down" -}}
- alert: BakehouseDown
  expr: |-
    absent(bakehouse_model_info{ {{- include "bakehouse.rules.matchers" . }}})
  for: 3m
  keep_firing_for: 5m
  labels: {severity: page}
  annotations:
    summary: No pod serves a model.
    description: >-
      Prometheus finds no pod of {{`{{ $labels.release }}`}} in {{`{{ $labels.namespace }}`}}
      that answers scrapes and has loaded its model.
{{- end }}

{{/* The same time yesterday and last week rules out nights and weekends. 100 requests in ten minutes rule out chance. */}}
{{- define "bakehouse.rules.trafficGone" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $predict := printf `bakehouse_http_requests_total{%s, route="/predict"}` $ours -}}
- alert: BakehouseTrafficGone
  expr: |-
    sum by (namespace, release) (increase({{ $predict }}[10m] offset 1h)) >= 100
      and (
        sum by (namespace, release) (increase({{ $predict }}[10m]))
          or 0 * sum by (namespace, release) (bakehouse_model_info{ {{- $ours }}})
      ) == 0
      unless sum by (namespace, release) (increase({{ $predict }}[10m] offset 1d)) < 10
      unless sum by (namespace, release) (increase({{ $predict }}[10m] offset 1w)) < 10
  for: 5m
  labels: {severity: ticket}
  annotations:
    summary: Prediction requests stopped.
    description: >-
      {{`{{ $labels.release }}`}} received {{`{{ $value | humanize }}`}} prediction requests in ten minutes an hour ago,
      and none in the last ten minutes.
{{- end }}

{{/* A rollout may take the progress deadline for each pod, and the last old pod drains. Most rollouts take far less. */}}
{{- define "bakehouse.rules.versionSkew" -}}
{{- $pods := .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas (include "bakehouse.desiredReplicas" .) | int }}
{{- $seconds := add (mul $pods .Values.rollout.progressDeadlineSeconds) (include "bakehouse.stopSeconds" .) | max 900 | min 3600 -}}
- alert: BakehouseVersionSkew
  expr: |-
    count by (namespace, release) (group by (namespace, release, version) (bakehouse_model_info{
      {{- include "bakehouse.rules.matchers" . }}})) > 1
  for: {{ $seconds }}s
  labels: {severity: ticket}
  annotations:
    summary: Pods serve different model versions.
    description: >-
      The pods of {{`{{ $labels.release }}`}} have served {{`{{ $value }}`}} model versions
      for longer than a rollout may take.
{{- end }}

{{- define "bakehouse.rules.crashLoop" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $pod := "{{ $labels.pod }}" -}}
- alert: BakehouseCrashLoop
  expr: |-
    max by (namespace, release, pod) (changes(process_start_time_seconds{ {{- $ours }}}[1h])) >= 3
  labels: {severity: ticket, cause: container}
  annotations:
    summary: A pod restarts again and again.
    description: The server in {{ $pod }} restarted {{`{{ $value }}`}} times within an hour.
{{- /* A starting server starts all its processes, so this one excludes servers that are younger than the window. */}}
- alert: BakehouseCrashLoop
  expr: |-
    max by (namespace, release, pod) (
      changes(bakehouse_processes_started_total{ {{- $ours }}}[30m]) >= 3
        and time() - process_start_time_seconds{ {{- $ours }}} > 1800)
  labels: {severity: ticket, cause: process}
  annotations:
    summary: A pod replaces its serving processes again and again.
    description: {{ printf "%s replaced serving processes {{ $value }} times within half an hour." $pod | quote }}
{{- /* A server that ends before its first scrape was never up. */}}
- alert: BakehouseCrashLoop
  expr: |-
    max by (namespace, release, pod) (max_over_time(up{ {{- $ours }}}[15m]) == 0 and up{ {{- $ours }}} offset 15m)
  labels: {severity: ticket, cause: silence}
  annotations:
    summary: A pod does not answer scrapes.
    description: {{ printf "%s has answered no scrape for 15 minutes." $pod | quote }}
{{- end }}

{{/* Busy threads alone harm no request. These fire when requests wait or are refused, and the budgets above page. */}}
{{- define "bakehouse.rules.saturated" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $release := "{{ $labels.release }}" }}
{{- $latency := .Values.slo.latencySeconds }}
{{- $full := "queue_full|too_many_connections|too_many_bytes" }}
{{- $predictions := printf `bakehouse_http_request_duration_seconds_count{%s, route="/predict"}` $ours }}
{{- /* Fewer in ten minutes are not a trend. */}}
{{- $few := 10 -}}
- alert: BakehouseSaturated
  expr: |-
    sum by (namespace, release) (increase(bakehouse_http_requests_refused_total{ {{- $ours }}, reason=~"{{ $full }}"}[10m])) >= {{ $few }}
  for: 15m
  keep_firing_for: 15m
  labels: {severity: ticket, cause: refused}
  annotations:
    summary: The pods refuse requests because they are full.
    description: >-
      {{ $release }} refused {{`{{ $value | humanize }}`}} requests in ten minutes,
      and has refused requests for a quarter of an hour.
- alert: BakehouseSaturated
  expr: |-
    sum by (namespace, release) (increase(bakehouse_queue_wait_seconds_sum{ {{- $ours }}}[10m]))
      / (sum by (namespace, release) (increase({{ $predictions }}[10m])) >= {{ $few }})
      > {{ divf $latency 4 }}
  for: 15m
  keep_firing_for: 15m
  labels: {severity: ticket, cause: queue}
  annotations:
    summary: Requests wait long for a thread.
    description: >-
      Requests to {{ $release }} wait {{`{{ $value | humanizeDuration }}`}} for a thread on average.
      That is more than a quarter of the {{ $latency }} s that a prediction may take.
- alert: BakehouseSaturated
  expr: |-
    sum by (namespace, release) (increase(bakehouse_cpu_throttled_periods_total{ {{- $ours }}}[10m]))
      / (sum by (namespace, release) (increase(bakehouse_cpu_periods_total{ {{- $ours }}}[10m])) > 0)
      > 0.5
  for: 30m
  keep_firing_for: 15m
  labels: {severity: ticket, cause: cpu}
  annotations:
    summary: The CPU limit stops the pods most of the time.
    description: >-
      The CPU limit stopped the pods of {{ $release }} in {{`{{ $value | humanizePercentage }}`}}
      of the periods in which they ran.
{{- end }}

{{- define "bakehouse.rules.certificateExpiring" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- range list (dict "severity" "ticket" "days" 14 "for" "1h") (dict "severity" "page" "days" 2 "for" "15m") }}
- alert: BakehouseCertificateExpiring
  expr: |-
    min by (namespace, release) (bakehouse_tls_certificate_expiry_timestamp_seconds{ {{- $ours }}}) - time() < {{ mul .days 86400 }}
  for: {{ .for }}
  labels: {severity: {{ .severity }}}
  annotations:
    summary: The certificate of the pods expires soon.
    description: {{ "The TLS certificate of {{ $labels.release }} expires in {{ $value | humanizeDuration }}." | quote }}
{{- end }}
{{- end }}
