{{/* Environment variables, ports and tracing. */}}
{{- define "bakehouse.problems.environment" -}}
{{- $owners := dict
  "BAKEHOUSE_DRAIN_SECONDS" "settings.drainSeconds"
  "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS" "settings.gracefulTimeoutSeconds"
  "BAKEHOUSE_HEALTH_PORT" "service.healthPort"
  "BAKEHOUSE_HOST" "networkPolicy"
  "BAKEHOUSE_HTTP_PORT" "service.port"
  "BAKEHOUSE_TLS_CERTIFICATE" "backendTLS"
  "BAKEHOUSE_TLS_KEY" "backendTLS"
  "BAKEHOUSE_TRACING" "tracing"
}}
{{- range .Values.extraEnv }}
{{- $name := .name }}
{{- with get $owners $name }}
- >-
  extraEnv must not set {{ $name }}, because the chart depends on it: use {{ . }} instead.
{{- end }}
{{- end }}
{{- if eq (int .Values.service.port) (int .Values.service.healthPort) }}
- >-
  service.port and service.healthPort are both {{ .Values.service.port }}: set two different ports.
{{- end }}
{{- if .Values.tracing.enabled }}
{{- if not .Values.tracing.endpoint }}
- >-
  tracing.enabled has no collector to send traces to: set tracing.endpoint to the address of a collector,
  such as http://collector.monitoring:4318.
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) }}
- >-
  networkPolicy keeps the pods from tracing.endpoint: set networkPolicy.egress to rules for the collector and for DNS.
{{- end }}
{{- end }}
{{- end }}
