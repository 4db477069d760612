{{/* Ingress, Gateway and the certificates of the edge. */}}
{{- define "bakehouse.problems.edge" -}}
{{- include "bakehouse.problems.hosts" . }}
{{- include "bakehouse.problems.tls" . }}
{{- if .Values.gateway.enabled }}
{{- include "bakehouse.problems.gateway" . }}
{{- end }}
{{- end }}

{{- define "bakehouse.problems.hosts" -}}
{{- $ingress := .Values.ingress }}
{{- $gateway := .Values.gateway }}
{{- if and $ingress.enabled (not $ingress.hosts) }}
- >-
  ingress.enabled needs a host name: set ingress.hosts.
{{- end }}
{{- if and $gateway.enabled (not $gateway.hostnames) }}
- >-
  gateway.enabled needs a host name: set gateway.hostnames.
{{- end }}
{{- if and $ingress.enabled $gateway.enabled }}
{{- range $ingress.hosts }}
{{- if has . $gateway.hostnames }}
- >-
  {{ . }} is served by both ingress.hosts and gateway.hostnames, so either may answer: name it in one of them only.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "bakehouse.problems.tls" -}}
{{- $tls := .Values.tls }}
{{- if and (include "bakehouse.edgeTLS" .) (not (or .Values.ingress.enabled .Values.gateway.enabled)) }}
- >-
  tls.mode {{ $tls.mode }} has no edge to secure: enable ingress or gateway, or set tls.mode to none.
{{- end }}
{{- if and (eq $tls.mode "existingSecret") (not $tls.secretName) }}
- >-
  tls.mode existingSecret needs the name of the Secret: set tls.secretName.
{{- end }}
{{- if and (eq $tls.mode "certManager") (not $tls.issuerRef.name) }}
- >-
  tls.mode certManager needs an issuer: set tls.issuerRef.name and, for a ClusterIssuer, tls.issuerRef.kind.
{{- end }}
{{- end }}

{{- define "bakehouse.problems.gateway" -}}
{{- $gateway := .Values.gateway }}
{{- with $gateway.requestTimeout }}
{{- $seconds := include "bakehouse.seconds" . | int }}
{{- if gt $seconds (int $.Values.settings.gracefulTimeoutSeconds) }}
- >-
  gateway.requestTimeout {{ . }} lets requests run longer than a stopping pod waits for them:
  set settings.gracefulTimeoutSeconds to at least {{ $seconds }}.
{{- end }}
{{- end }}
{{- if and $gateway.parentRefs (not .Values.ingress.enabled) (include "bakehouse.edgeTLS" .) }}
- >-
  tls.mode {{ .Values.tls.mode }} creates a certificate that nothing uses, because the Gateway of gateway.parentRefs has its own:
  set tls.mode to none, or gateway.create.kind to Gateway or ListenerSet.
{{- end }}
{{- with $gateway.create }}
{{- if and (eq .kind "none") (not $gateway.parentRefs) }}
- >-
  gateway.enabled attaches to no listener: set gateway.parentRefs to those of your Gateway,
  or gateway.create.kind to Gateway or ListenerSet.
{{- end }}
{{- if and (ne .kind "none") $gateway.parentRefs }}
- >-
  gateway.parentRefs and gateway.create.kind {{ .kind }} exclude each other: leave one of them empty.
{{- end }}
{{- if and (eq .kind "Gateway") (not .className) }}
- >-
  gateway.create.kind Gateway needs a class: set gateway.create.className (kubectl get gatewayclasses).
{{- end }}
{{- if and (eq .kind "ListenerSet") (not .parentRef.name) }}
- >-
  gateway.create.kind ListenerSet needs a Gateway to join: set gateway.create.parentRef.name and namespace.
{{- end }}
{{- end }}
{{- end }}
