{{/* The endpoint that a ServiceMonitor or PodMonitor scrapes. Rules and dashboards find a release by its label release. */}}
{{- define "bakehouse.metricsEndpoint" -}}
port: health
path: /metrics
{{- with .Values.metrics.monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .Values.metrics.monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
relabelings:
  - {targetLabel: release, replacement: {{ .Release.Name | quote }}}
{{- end }}
