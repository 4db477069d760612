{{/* The number of pods: autoscaling, and the budget of node drains. */}}
{{- define "bakehouse.problems.replicas" -}}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- if not (kindIs "invalid" $.Values.replicaCount) }}
- >-
  replicaCount {{ $.Values.replicaCount }} conflicts with the HorizontalPodAutoscaler:
  leave it empty, and set autoscaling.minReplicas.
{{- end }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
- >-
  autoscaling.minReplicas {{ .minReplicas }} is more than autoscaling.maxReplicas {{ .maxReplicas }}:
  lower the first, or raise the second.
{{- end }}
{{- if and (not .metrics) (not (dig "requests" "cpu" "" $.Values.resources)) }}
- >-
  autoscaling by CPU needs a CPU request: set resources.requests.cpu, or autoscaling.metrics.
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.podDisruptionBudget.enabled }}
{{- if kindIs "invalid" .Values.podDisruptionBudget.minAvailable }}
{{- include "bakehouse.problems.maxUnavailable" . }}
{{- else }}
{{- include "bakehouse.problems.minAvailable" . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "bakehouse.problems.maxUnavailable" -}}
{{- $given := .Values.podDisruptionBudget.maxUnavailable }}
{{- $pods := include "bakehouse.minReplicas" . | int }}
{{- $away := toString $given | trimSuffix "%" | int }}
{{- /* Kubernetes rounds percentages up. */}}
{{- $drained := hasSuffix "%" (toString $given) | ternary (div (add (mul $away $pods) 99) 100) $away | int }}
{{- if eq $away 0 }}
- >-
  podDisruptionBudget.maxUnavailable {{ $given }} blocks every node drain: set it to at least 1.
{{- else if and (gt $pods 1) (ge $drained $pods) }}
- >-
  podDisruptionBudget.maxUnavailable {{ $given }} of at least {{ $pods }} pods lets a node drain remove all of them:
  set it to at most {{ sub $pods 1 }}.
{{- end }}
{{- end }}

{{- define "bakehouse.problems.minAvailable" -}}
{{- $given := .Values.podDisruptionBudget.minAvailable }}
{{- $pods := include "bakehouse.minReplicas" . | int }}
{{- $kept := toString $given | trimSuffix "%" | int }}
{{- if eq $kept 0 }}
- >-
  podDisruptionBudget.minAvailable {{ $given }} lets a node drain remove all pods: set it to at least 1, or leave it empty.
{{- else if eq $pods 1 }}
{{- /* A single pod has no budget, see poddisruptionbudget.yaml. */}}
{{- else if hasSuffix "%" (toString $given) }}
{{- if gt (mul $kept $pods) (mul 100 (sub $pods 1)) }}
- >-
  podDisruptionBudget.minAvailable {{ $given }} of at least {{ $pods }} pods blocks every node drain:
  set it to a number below {{ $pods }}, or leave it empty.
{{- end }}
{{- else if ge $kept $pods }}
- >-
  podDisruptionBudget.minAvailable {{ $given }} of at least {{ $pods }} pods blocks every node drain:
  set it to at most {{ sub $pods 1 }}, or leave it empty.
{{- end }}
{{- end }}
