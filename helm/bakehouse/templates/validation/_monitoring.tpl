{{/* Scrapes, rules and dashboards. */}}
{{- define "bakehouse.problems.monitoring" -}}
{{- $monitor := .Values.metrics.monitor }}
{{- $rules := .Values.metrics.rules }}
{{- $dashboards := .Values.metrics.dashboards }}
{{- $interval := include "bakehouse.seconds" $monitor.interval | int }}
{{- if and $rules.enabled (eq $monitor.kind "none") }}
- >-
  metrics.rules.enabled needs scraped metrics: set metrics.monitor.kind to ServiceMonitor or PodMonitor.
{{- end }}
{{- if and $interval (gt (include "bakehouse.seconds" $monitor.scrapeTimeout | int) $interval) }}
- >-
  metrics.monitor.scrapeTimeout {{ $monitor.scrapeTimeout }} is longer than metrics.monitor.interval {{ $monitor.interval }},
  which Prometheus refuses: set it to at most the interval.
{{- end }}
{{- if $rules.enabled }}
{{- /* A rate needs two scrapes, and four if one may be lost. The shortest window of an alert is 5m. */}}
{{- if gt $interval 75 }}
- >-
  metrics.monitor.interval {{ $monitor.interval }} gives alerts too few scrapes: set it to at most 75s,
  or metrics.rules.enabled to false.
{{- end }}
{{- $shortest := mul 4 ($interval | default 60) | int }}
{{- range $name, $subject := pick $rules "drift" "feedback" }}
{{- if lt (include "bakehouse.seconds" $subject.window | int) $shortest }}
- >-
  metrics.rules.{{ $name }}.window {{ $subject.window }} is too short to measure how counters grow: set it to at least
  {{ $shortest }}s, four times metrics.monitor.interval ({{ $monitor.interval | default "empty, taken as 60s" }}).
{{- end }}
{{- end }}
{{- end }}
{{- if and $dashboards.grafanaDashboard.enabled (not $dashboards.enabled) }}
- >-
  metrics.dashboards.grafanaDashboard.enabled needs the ConfigMaps of the dashboards: set metrics.dashboards.enabled.
{{- end }}
{{- end }}
