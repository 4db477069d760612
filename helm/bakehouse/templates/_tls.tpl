{{/* Certificates: of the edge, and of the pods (backendTLS). */}}

{{/* "true" if the edge has a certificate, otherwise nothing. */}}
{{- define "bakehouse.edgeTLS" -}}
{{- if ne .Values.tls.mode "none" }}true{{ end -}}
{{- end }}

{{- define "bakehouse.tlsSecretName" -}}
{{- default (printf "%s-tls" (include "bakehouse.name" .)) .Values.tls.secretName -}}
{{- end }}

{{- define "bakehouse.backendTLSSecretName" -}}
{{- default (printf "%s-pod-tls" (include "bakehouse.name" .)) .Values.backendTLS.secretName -}}
{{- end }}

{{- define "bakehouse.backendTLSHostname" -}}
{{- default (printf "%s.%s.svc" (include "bakehouse.name" .) .Release.Namespace) .Values.backendTLS.hostname -}}
{{- end }}

{{- define "bakehouse.backendCAConfigMapName" -}}
{{- default (printf "%s-pod-ca" (include "bakehouse.name" .)) .Values.backendTLS.caConfigMapName -}}
{{- end }}

{{/*
The data of a self-signed Secret, as JSON. The live Secret's data stays while the host names are the same, so that an
upgrade changes nothing. Otherwise the chart generates an authority and a certificate. Takes root, name (of the Secret)
and hosts.
*/}}
{{- define "bakehouse.selfSigned" -}}
{{- $live := lookup "v1" "Secret" .root.Release.Namespace .name -}}
{{- $hosts := join "," .hosts -}}
{{- if and $live (eq (dig "metadata" "annotations" "bakehouse/hosts" "" $live) $hosts) -}}
{{- toJson $live.data -}}
{{- else -}}
{{- $authority := genCA (printf "%s in %s, self-signed" .name .root.Release.Namespace) 3650 -}}
{{- $certificate := genSignedCert (first .hosts) nil .hosts 3650 $authority -}}
{{- dict "ca.crt" (b64enc $authority.Cert) "tls.crt" (b64enc $certificate.Cert) "tls.key" (b64enc $certificate.Key) | toJson -}}
{{- end -}}
{{- end }}
