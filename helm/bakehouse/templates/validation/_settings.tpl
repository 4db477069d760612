{{/* Settings of the service. */}}
{{- define "bakehouse.problems.settings" -}}
{{- $settings := .Values.settings }}
{{- if lt (int (ceil $settings.drainSeconds)) 2 }}
- >-
  settings.drainSeconds {{ $settings.drainSeconds }} ends before proxies stop sending requests to the pod:
  set it to at least 2, or better 10.
{{- end }}
{{- with $settings.predictionLog }}
{{- if and (ne . "-") (not $.Values.extraVolumeMounts) }}
- >-
  settings.predictionLog {{ . }} is not on a volume, and the container's file system is read-only:
  set extraVolumes and extraVolumeMounts, or settings.predictionLog to - for standard output.
{{- end }}
{{- end }}
{{- with $settings.workerTimeoutSeconds }}
{{- if lt (int .) (int $settings.gracefulTimeoutSeconds) }}
- >-
  settings.workerTimeoutSeconds {{ . }} kills a process that is still finishing requests:
  set it to at least settings.gracefulTimeoutSeconds ({{ $settings.gracefulTimeoutSeconds }}).
{{- end }}
{{- end }}
{{- end }}
