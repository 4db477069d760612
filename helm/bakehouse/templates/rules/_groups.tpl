{{/*
The rules of the release, as YAML. Each file here has the groups of one subject, and docs/runbooks has a page for each alert.
- Expressions match the release by namespace and release, whatever the kind of monitor and its job.
- increase() before sum() also counts the rows and requests of pods that are gone.
- Annotations hold placeholders such as $labels.release in backticks. Prometheus fills them in.
*/}}
{{- define "bakehouse.ruleGroups" -}}
{{- $runbooks := trimSuffix "/" .Values.metrics.rules.runbookURL -}}
{{- $groups := list -}}
{{- range $subject := list "objectives" "slo" "burn" "pods" "drift" "feedback" -}}
{{- $groups = concat $groups (include (printf "bakehouse.rules.%s" $subject) $ | fromYamlArray) -}}
{{- end -}}
{{- range $groups -}}
{{- $_ := set . "name" (printf "%s-%s" (include "bakehouse.name" $) .name) -}}
{{- range .rules -}}
{{- if and .alert $runbooks }}{{ $_ := set .annotations "runbook_url" (printf "%s/%s.md" $runbooks .alert) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end }}

{{/* The matchers of the release's series. */}}
{{- define "bakehouse.rules.matchers" -}}
{{- printf "namespace=%q, release=%q" .Release.Namespace .Release.Name -}}
{{- end }}

{{/* The histogram bucket of slo.latencySeconds, as Prometheus names it: 1 is 1.0. */}}
{{- define "bakehouse.rules.latencyBucket" -}}
{{- $seconds := toString .Values.slo.latencySeconds -}}
{{- contains "." $seconds | ternary $seconds (printf "%s.0" $seconds) -}}
{{- end }}
