{{/* Numbers and durations. */}}

{{/* A number in plain digits: Helm reads large whole numbers as floats, which print as 1e+06. */}}
{{- define "bakehouse.number" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The whole seconds of a duration such as 1m30s or 7d. */}}
{{- define "bakehouse.seconds" -}}
{{- $whole := regexReplaceAll "[0-9]+ms" . "" -}}
{{- $seconds := 0 -}}
{{- range $unit, $each := dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800 -}}
{{- $seconds = regexFind (printf "[0-9]+%s" $unit) $whole | trimSuffix $unit | int | mul $each | add $seconds -}}
{{- end -}}
{{ $seconds }}
{{- end }}
