{{/* What the pods of the server and of its checks have in common, and the container of the server. */}}

{{/* The ServiceAccount that the chart creates is not here, because checks run before it exists. */}}
{{- define "bakehouse.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if not .Values.serviceAccount.create }}
serviceAccountName: {{ include "bakehouse.serviceAccountName" . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
securityContext: {{ toJson .Values.podSecurityContext }}
{{- end }}

{{- define "bakehouse.container" -}}
image: {{ include "bakehouse.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{ toJson .Values.resources }}
securityContext: {{ toJson .Values.securityContext }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- define "bakehouse.serverContainer" -}}
name: server
{{ include "bakehouse.container" . }}
ports:
  - {name: http, containerPort: 8080}
  - {name: health, containerPort: 8081}
env:
  {{- include "bakehouse.env" (dict "root" . "server" true) | trim | nindent 2 }}
startupProbe:
  httpGet: {path: /readyz, port: health}
  {{- toYaml .Values.probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: health}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: health}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
lifecycle:
  preStop:
    exec: {command: [python, -m, service, drain]}
{{- if or .Values.backendTLS.enabled .Values.extraVolumeMounts }}
volumeMounts:
  {{- if .Values.backendTLS.enabled }}
  - {name: tls, mountPath: /etc/bakehouse/tls, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "bakehouse.serverVolumes" -}}
{{- if .Values.backendTLS.enabled -}}
- name: tls
  secret: {secretName: {{ include "bakehouse.backendTLSSecretName" . | quote }}, defaultMode: 0440}
{{ end -}}
{{- with .Values.extraVolumes }}{{ toYaml . }}{{ end -}}
{{- end }}
