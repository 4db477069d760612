{{/* Host names, and the listeners of a Gateway or ListenerSet. */}}

{{/* All host names of Ingress and Gateway, as JSON. */}}
{{- define "bakehouse.hosts" -}}
{{- $ingress := .Values.ingress.enabled | ternary .Values.ingress.hosts list -}}
{{- $gateway := .Values.gateway.enabled | ternary .Values.gateway.hostnames list -}}
{{- concat $ingress $gateway | toJson -}}
{{- end }}

{{/* Each host has an HTTP listener. With TLS it has an HTTPS listener too, and the HTTP one only redirects. */}}
{{- define "bakehouse.listeners" -}}
{{- $root := . -}}
{{- range $index, $host := .Values.gateway.hostnames }}
- name: http-{{ $index }}
  hostname: {{ $host | quote }}
  port: 80
  protocol: HTTP
  allowedRoutes: {namespaces: {from: Same}}
{{- if include "bakehouse.edgeTLS" $root }}
- name: https-{{ $index }}
  hostname: {{ $host | quote }}
  port: 443
  protocol: HTTPS
  allowedRoutes: {namespaces: {from: Same}}
  tls:
    mode: Terminate
    certificateRefs: [{name: {{ include "bakehouse.tlsSecretName" $root | quote }}}]
{{- end }}
{{- end }}
{{- end }}

{{/* The parentRefs of the main route, as JSON: the user's listeners, or the best that the chart creates. */}}
{{- define "bakehouse.routeParents" -}}
{{- if eq .Values.gateway.create.kind "none" -}}
{{- toJson .Values.gateway.parentRefs -}}
{{- else -}}
{{- include "bakehouse.listenerRefs" (dict "root" . "scheme" (include "bakehouse.edgeTLS" . | eq "true" | ternary "https" "http")) -}}
{{- end -}}
{{- end }}

{{/* The parentRefs of the route that redirects to HTTPS, as JSON: [] if nothing redirects. */}}
{{- define "bakehouse.redirectParents" -}}
{{- if not .Values.tls.redirect -}}
[]
{{- else if eq .Values.gateway.create.kind "none" -}}
{{- toJson .Values.gateway.redirectParentRefs -}}
{{- else if include "bakehouse.edgeTLS" . -}}
{{- include "bakehouse.listenerRefs" (dict "root" . "scheme" "http") -}}
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* References to the listeners of one scheme that the chart creates, as JSON. Takes root and scheme. */}}
{{- define "bakehouse.listenerRefs" -}}
{{- $root := .root -}}
{{- $scheme := .scheme -}}
{{- $refs := list -}}
{{- range $index, $_ := .root.Values.gateway.hostnames -}}
{{- $ref := dict "group" "gateway.networking.k8s.io" "kind" $root.Values.gateway.create.kind -}}
{{- $_ := set $ref "name" (include "bakehouse.name" $root) -}}
{{- $_ := set $ref "sectionName" (printf "%s-%d" $scheme $index) -}}
{{- $refs = append $refs $ref -}}
{{- end -}}
{{- toJson $refs -}}
{{- end }}
