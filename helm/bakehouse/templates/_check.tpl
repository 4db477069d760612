{{/* The checks: the Job before a rollout, and the pods of helm test. */}}

{{/* An upgrade compares the new contract with that of the live release, which must answer if a pod is ready. */}}
{{- define "bakehouse.checkArguments" -}}
- check
{{- with .Values.image.tag }}
- --version={{ . }}
{{- end }}
{{- with .Values.gate.latencyBudgetMilliseconds }}
- --latency-budget={{ include "bakehouse.number" . }}
{{- end }}
{{- if .Release.IsUpgrade }}
{{- $health := dict "service" (include "bakehouse.healthServiceName" .) "port" .Values.service.healthPort }}
{{- $live := merge (include "bakehouse.livePort" (dict "root" . "name" "health") | fromJson) $health }}
- --live=http://{{ $live.service }}:{{ $live.port }}
{{- $deployment := lookup "apps/v1" "Deployment" .Release.Namespace (include "bakehouse.name" .) }}
{{- if gt (dig "status" "readyReplicas" 0 $deployment | int) 0 }}
- --live-must-answer
{{- end }}
{{- end }}
{{- if .Values.gate.allowContractChange }}
- --allow-contract-change
{{- end }}
{{- end }}

{{/* A pod that runs python -m service smoke. Takes root, of, args, and the configMap or secret with an authority. */}}
{{- define "bakehouse.testPod" }}
{{- $authority := or .configMap .secret }}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "bakehouse.name" .root }}-test-{{ .of }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "bakehouse.podLabels" (dict "root" .root "component" "test") | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
spec:
  {{- include "bakehouse.podSpec" .root | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: smoke
      {{- include "bakehouse.container" .root | nindent 6 }}
      args:
        - smoke
        - --patience=30
        {{- range .args }}
        - {{ . | quote }}
        {{- end }}
        {{- with .root.Values.image.tag }}
        - --version={{ . }}
        {{- end }}
        {{- if $authority }}
        - --ca=/etc/bakehouse/ca/ca.crt
        {{- end }}
      {{- if $authority }}
      volumeMounts:
        - {name: ca, mountPath: /etc/bakehouse/ca, readOnly: true}
      {{- end }}
  {{- if $authority }}
  volumes:
    - name: ca
      {{- with .configMap }}
      configMap: {name: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}]}
      {{- end }}
      {{- with .secret }}
      secret: {secretName: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}], defaultMode: 0440}
      {{- end }}
  {{- end }}
{{- end }}
