{{/* TLS from the edge to the pods. */}}
{{- define "bakehouse.problems.backendTLS" -}}
{{- $live := include "bakehouse.livePort" (dict "root" . "name" "http") | fromJson }}
{{- with .Values.backendTLS }}
{{- if and $live (ne (eq (dig "appProtocol" "" $live) "https") .enabled) }}
- >-
  backendTLS.enabled cannot change while pods serve, because old and new pods would not speak the same protocol:
  install a second release with it, move the edge to that one, and uninstall this one.
{{- end }}
{{- if and .enabled .secretName $.Values.gateway.enabled (not .caConfigMapName) }}
- >-
  backendTLS.secretName needs the authority that the Gateway trusts: put its ca.crt into a ConfigMap,
  and set backendTLS.caConfigMapName.
{{- end }}
{{- if and .enabled $.Values.ingress.enabled (not (or $.Values.service.annotations $.Values.ingress.annotations)) }}
- >-
  backendTLS behind an Ingress needs the controller's own annotations, otherwise it sends plain HTTP to the pods:
  set service.annotations or ingress.annotations, or use gateway.
{{- end }}
{{- end }}
{{- end }}
