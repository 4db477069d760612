{{/* How pods are replaced. */}}
{{- define "bakehouse.problems.rollout" -}}
{{- $rollout := .Values.rollout }}
{{- $grace := include "bakehouse.terminationGracePeriodSeconds" . | int }}
{{- $stop := include "bakehouse.stopSeconds" . | int }}
{{- if lt $grace $stop }}
- >-
  rollout.terminationGracePeriodSeconds {{ $grace }} kills pods that still answer requests: set it to at least {{ $stop }}
  (settings.drainSeconds + settings.gracefulTimeoutSeconds + 10), or leave it empty.
{{- end }}
{{- $surge := toString $rollout.maxSurge | trimSuffix "%" | int }}
{{- $unavailable := toString $rollout.maxUnavailable | trimSuffix "%" | int }}
{{- if and (eq $surge 0) (eq $unavailable 0) }}
- >-
  rollout.maxSurge and rollout.maxUnavailable are both 0, so Kubernetes can replace no pod: set maxSurge to at least 1.
{{- end }}
{{- /* Kubernetes rounds maxUnavailable down, and up to 1 if maxSurge is 0. */}}
{{- $pods := include "bakehouse.minReplicas" . | int }}
{{- $away := hasSuffix "%" (toString $rollout.maxUnavailable) | ternary (div (mul $unavailable $pods) 100) $unavailable | int }}
{{- if eq $surge 0 }}{{ $away = max 1 $away | int }}{{ end }}
{{- if and (gt $unavailable 0) (ge $away $pods) }}
- >-
  rollout.maxUnavailable {{ $rollout.maxUnavailable }} of {{ $pods }} pods leaves no pod to answer during a rollout:
  set it to 0, and rollout.maxSurge to 1.
{{- end }}
{{- $startup := .Values.probes.startup }}
{{- $start := add (mul $startup.periodSeconds $startup.failureThreshold) $rollout.minReadySeconds | int }}
{{- if ge $start (int $rollout.progressDeadlineSeconds) }}
- >-
  rollout.progressDeadlineSeconds {{ $rollout.progressDeadlineSeconds }} ends before a slow pod has started: set it above
  {{ $start }} (probes.startup.periodSeconds * failureThreshold + rollout.minReadySeconds), or lower those values.
{{- end }}
{{- range $name, $probe := .Values.probes }}
{{- if and (ne $name "startup") (gt (int $probe.timeoutSeconds) (int $probe.periodSeconds)) }}
- >-
  probes.{{ $name }}.timeoutSeconds {{ $probe.timeoutSeconds }} is longer than its periodSeconds {{ $probe.periodSeconds }}:
  set it to at most the period.
{{- end }}
{{- end }}
{{- end }}
