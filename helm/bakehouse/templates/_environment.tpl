{{/*
The environment of the server, or of its check. It holds the settings, then extraEnv in the user's order, because $(OTHER)
expands only variables that come before. Each name appears once, and extraEnv wins. The check runs before the release's
Secrets and ConfigMaps exist, so references to them are optional there. Takes root and server.
*/}}
{{- define "bakehouse.env" -}}
{{- $env := mergeOverwrite (include "bakehouse.settingsEnv" .root | fromJson) (include "bakehouse.chartEnv" . | fromJson) -}}
{{- $extra := dict -}}
{{- range .root.Values.extraEnv }}{{ $_ := set $extra .name . }}{{ end -}}
{{- range $name := keys $env | sortAlpha -}}
{{- if not (hasKey $extra $name) -}}
- {{ dict "name" $name "value" (get $env $name) | toJson }}
{{ end }}
{{- end }}
{{- range .root.Values.extraEnv -}}
{{- if hasKey $extra .name -}}
{{- $variable := get $extra .name | deepCopy -}}
{{- if not $.server -}}
{{- range $source := list "secretKeyRef" "configMapKeyRef" -}}
{{- with dig "valueFrom" $source dict $variable }}{{ $_ := set . "optional" true }}{{ end -}}
{{- end -}}
{{- end -}}
- {{ toJson $variable }}
{{ $_ := unset $extra .name }}
{{- end }}
{{- end }}
{{- end }}

{{/* The variables of .Values.settings, as JSON. A null leaves the service's own default. */}}
{{- define "bakehouse.settingsEnv" -}}
{{- $env := dict -}}
{{- range $name, $value := .Values.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $variable := eq $name "workers" | ternary "WEB_CONCURRENCY" (printf "BAKEHOUSE_%s" ($name | snakecase | upper)) -}}
{{- $_ := set $env $variable (include "bakehouse.number" $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* The variables that the chart computes from other values, as JSON. Takes root and server. */}}
{{- define "bakehouse.chartEnv" -}}
{{- $env := dict -}}
{{- if and .server .root.Values.ingress.enabled (include "bakehouse.edgeTLS" .root) .root.Values.tls.redirect -}}
{{- $_ := set $env "BAKEHOUSE_REDIRECT_TO_HTTPS" "true" -}}
{{- end -}}
{{- if and .server .root.Values.backendTLS.enabled -}}
{{- $_ := set $env "BAKEHOUSE_TLS_CERTIFICATE" "/etc/bakehouse/tls/tls.crt" -}}
{{- $_ := set $env "BAKEHOUSE_TLS_KEY" "/etc/bakehouse/tls/tls.key" -}}
{{- end -}}
{{- /* The check traces too, so that it fails in an image without the packages. */ -}}
{{- if .root.Values.tracing.enabled -}}
{{- $_ := set $env "BAKEHOUSE_TRACING" "true" -}}
{{- if .server -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" .root.Values.tracing.endpoint -}}
{{- $_ := set $env "OTEL_SERVICE_NAME" .root.Release.Name -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}
