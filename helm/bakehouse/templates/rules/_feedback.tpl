{{/* Feedback: predictions against the true values that clients sent, and against the held-out data. */}}
{{- define "bakehouse.rules.feedback" -}}
- name: feedback
  rules:
    {{- include "bakehouse.rules.feedbackRecords" . | nindent 4 }}
    {{- include "bakehouse.rules.feedbackAlerts" . | nindent 4 }}
{{- end }}

{{- define "bakehouse.rules.feedbackRecords" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $window := .Values.metrics.rules.feedback.window -}}
- record: bakehouse:feedback_rows
  expr: |-
    sum by (namespace, release, version) (increase(bakehouse_feedback_rows_total{ {{- $ours }}, result="accepted"}[{{ $window }}]))
- record: bakehouse:feedback_mean_absolute_error
  expr: |-
    sum by (namespace, release, version) (increase(bakehouse_feedback_error_total{ {{- $ours }}}[{{ $window }}]))
      / (bakehouse:feedback_rows{ {{- $ours }}} > 0)
- record: bakehouse:feedback_bias
  expr: |-
    (
      sum by (namespace, release, version) (increase(bakehouse_feedback_error_total{ {{- $ours }}, sign="over"}[{{ $window }}]))
        - sum by (namespace, release, version) (increase(bakehouse_feedback_error_total{ {{- $ours }}, sign="under"}[{{ $window }}]))
    )
      / (bakehouse:feedback_rows{ {{- $ours }}} > 0)
{{- range $record, $counter := dict "accuracy" "correct" "log_loss" "log_loss" "brier" "brier" }}
- record: bakehouse:feedback_{{ $record }}
  expr: |-
    sum by (namespace, release, version) (increase(bakehouse_feedback_{{ $counter }}_total{ {{- $ours }}}[{{ $window }}]))
      / (bakehouse:feedback_rows{ {{- $ours }}} > 0)
{{- end }}
{{- end }}

{{/* scikit-learn negates errors, so that a higher score is better. */}}
{{- define "bakehouse.rules.feedbackAlerts" -}}
{{- $ours := include "bakehouse.rules.matchers" . }}
{{- $feedback := .Values.metrics.rules.feedback }}
{{- $model := "version {{ $labels.version }} of {{ $labels.release }}" -}}
- alert: BakehouseBadFeedback
  expr: |-
    bakehouse:feedback_mean_absolute_error{ {{- $ours }}}
      > {{ addf 1 $feedback.tolerance }} * -max by (namespace, release, version) (bakehouse_model_score{
        {{- $ours }}, score="neg_mean_absolute_error"})
      and bakehouse:feedback_rows{ {{- $ours }}} >= {{ int64 $feedback.minimumRows }}
  for: 1h
  keep_firing_for: 1h
  labels: {severity: ticket, score: mean_absolute_error}
  annotations:
    summary: Predictions are worse than on the held-out data.
    description: >-
      Predictions of {{ $model }} are off by {{`{{ $value | humanize }}`}} on average over {{ $feedback.window }},
      more than on the held-out data.
- alert: BakehouseBadFeedback
  expr: |-
    bakehouse:feedback_accuracy{ {{- $ours }}}
      < max by (namespace, release, version) (bakehouse_model_score{ {{- $ours }}, score="accuracy"}) - {{ $feedback.tolerance }}
      and bakehouse:feedback_rows{ {{- $ours }}} >= {{ int64 $feedback.minimumRows }}
  for: 1h
  keep_firing_for: 1h
  labels: {severity: ticket, score: accuracy}
  annotations:
    summary: Predictions are worse than on the held-out data.
    description: >-
      {{`{{ $value | humanizePercentage }}`}} of the predictions of {{ $model }} are correct over {{ $feedback.window }},
      fewer than on the held-out data.
{{- end }}
