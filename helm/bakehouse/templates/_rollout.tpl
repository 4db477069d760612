{{/* How many pods run, and how long they take to stop. */}}

{{- define "bakehouse.desiredReplicas" -}}
{{- ternary 2 .Values.replicaCount (kindIs "invalid" .Values.replicaCount) -}}
{{- end }}

{{/* The fewest pods that run while the release is healthy. */}}
{{- define "bakehouse.minReplicas" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas (include "bakehouse.desiredReplicas" .) -}}
{{- end }}

{{/*
The replicas field of the Deployment, or nothing. Helm 4 applies fields server-side: a field belongs to the managers that
set it, and applying another value than theirs is a conflict.
- Without autoscaling, apply the desired number. If another manager such as kubectl scale owns the field, apply the live
  number instead, which does not conflict.
- With autoscaling, leave the field to the HorizontalPodAutoscaler. While Helm is its only owner, apply the live number:
  a field that its last owner drops falls back to 1, whatever the load.
- Helm 3 does not track owners and resets fields that are left out. Apply the live number.
*/}}
{{- define "bakehouse.replicas" -}}
{{- $desired := .Values.autoscaling.enabled | ternary "" (include "bakehouse.desiredReplicas" .) -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "bakehouse.name" .) -}}
{{- $owners := list -}}
{{- range dig "metadata" "managedFields" list $live -}}
{{- if hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas" }}{{ $owners = append $owners .manager }}{{ end -}}
{{- end -}}
{{- $others := without $owners "helm" -}}
{{- $helmOnly := and $owners (not $others) -}}
{{- if and $desired (not $others) -}}
replicas: {{ $desired }}
{{- else if and $live (or $desired $helmOnly (hasPrefix "v3" .Capabilities.HelmVersion.Version)) -}}
replicas: {{ $live.spec.replicas }}
{{- end -}}
{{- end }}

{{/* Seconds that a pod needs to stop: drain, graceful timeout, and ten for starting the drain command and exiting. */}}
{{- define "bakehouse.stopSeconds" -}}
{{- add (ceil .Values.settings.drainSeconds) .Values.settings.gracefulTimeoutSeconds 10 -}}
{{- end }}

{{- define "bakehouse.terminationGracePeriodSeconds" -}}
{{- default (include "bakehouse.stopSeconds" .) .Values.rollout.terminationGracePeriodSeconds -}}
{{- end }}
