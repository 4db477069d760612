{{/* Every name, label set and image reference, once. */}}

{{- define "bakehouse.chartName" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* 50 characters leave room for suffixes such as -gate within a label's 63. */}}
{{- define "bakehouse.name" -}}
{{- $chart := include "bakehouse.chartName" . -}}
{{- $name := contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{- default $name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* What selects a release's objects; never changes, because a Deployment's selector cannot. */}}
{{- define "bakehouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bakehouse.chartName" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "bakehouse.serverSelector" -}}
{{ include "bakehouse.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "bakehouse.labels" -}}
{{- include "bakehouse.labelsOf" (dict "root" .) -}}
{{- end }}

{{/* The labels of an object of one component. Takes root and component. */}}
{{- define "bakehouse.labelsOf" -}}
{{- $own := include "bakehouse.selectorLabels" .root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end -}}
{{- with .root.Values.image.tag }}{{ $_ := set $own "app.kubernetes.io/version" . }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) $own) -}}
{{- end }}

{{/* The labels of a pod: what a new chart changes is not among them, so that a new chart alone replaces no pod. */}}
{{- define "bakehouse.podLabels" -}}
{{- $own := include "bakehouse.selectorLabels" .root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" .component -}}
{{- with .root.Values.image.tag }}{{ $_ := set $own "app.kubernetes.io/version" . }}{{ end -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy .root.Values.podLabels) $own) -}}
{{- end }}

{{- define "bakehouse.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{- define "bakehouse.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "bakehouse.name" .) "default") .Values.serviceAccount.name -}}
{{- end }}

{{/* The fewest pods that run when nothing is wrong. */}}
{{- define "bakehouse.fewestPods" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas (include "bakehouse.wantedPods" .) -}}
{{- end }}

{{- define "bakehouse.wantedPods" -}}
{{- ternary 2 .Values.replicaCount (kindIs "invalid" .Values.replicaCount) -}}
{{- end }}

{{/*
The line replicas:, or nothing. Whoever set a field owns it, and an apply that disagrees is a conflict: so a number that
kubectl or a HorizontalPodAutoscaler took over is left as it is. A field that nobody but Helm owns and that it no longer
applies falls back to 1, under whatever load: so it is applied, as it is, until an autoscaler takes it over. Helm 3 knows
no owners and sets back what is left out.
*/}}
{{- define "bakehouse.replicas" -}}
{{- $wanted := .Values.autoscaling.enabled | ternary "" (include "bakehouse.wantedPods" .) -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "bakehouse.name" .) -}}
{{- $owners := list -}}
{{- range dig "metadata" "managedFields" list $live -}}
{{- if hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas" }}{{ $owners = append $owners .manager }}{{ end -}}
{{- end -}}
{{- $others := without $owners "helm" -}}
{{- if and $wanted (not $others) -}}
replicas: {{ $wanted }}
{{- else if and $live (or $wanted (and $owners (not $others)) (hasPrefix "v3" .Capabilities.HelmVersion.Version)) -}}
replicas: {{ $live.spec.replicas }}
{{- end -}}
{{- end }}

{{/* Drain and graceful timeout, and ten seconds for the start of the drain command and the exit. */}}
{{- define "bakehouse.stopSeconds" -}}
{{- add (ceil .Values.settings.drainSeconds) .Values.settings.gracefulTimeoutSeconds 10 -}}
{{- end }}

{{- define "bakehouse.terminationGracePeriodSeconds" -}}
{{- default (include "bakehouse.stopSeconds" .) .Values.rollout.terminationGracePeriodSeconds -}}
{{- end }}

{{/* The Service of the health port: one of its own where the other is published, because metrics are nobody else's. */}}
{{- define "bakehouse.healthServiceName" -}}
{{- include "bakehouse.name" . }}{{ if ne .Values.service.type "ClusterIP" }}-health{{ end }}
{{- end }}

{{/* A port of the release as it is in the cluster, with its service, as JSON; {} where there is none. Takes root and name. */}}
{{- define "bakehouse.livePort" -}}
{{- $found := dict -}}
{{- $root := .root -}}
{{- $name := .name -}}
{{- range $suffix := list "" "-health" -}}
{{- $service := printf "%s%s" (include "bakehouse.name" $root) $suffix -}}
{{- range dig "spec" "ports" list (lookup "v1" "Service" $root.Release.Namespace $service) -}}
{{- if eq .name $name }}{{ $found = merge (dict "service" $service) . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* The environment of the server, or of a check that runs before the release's Secrets exist, which are optional
there: settings, and extraEnv after them, in its order, because $(OTHER) sees only what stands before it. No name is twice, extraEnv's stays.
Takes root and server. */}}
{{- define "bakehouse.env" -}}
{{- $env := dict -}}
{{- range $name, $value := .root.Values.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $variable := eq $name "workers" | ternary "WEB_CONCURRENCY" (printf "BAKEHOUSE_%s" ($name | snakecase | upper)) -}}
{{- $_ := set $env $variable (dict "value" (include "bakehouse.number" $value)) -}}
{{- end -}}
{{- end -}}
{{- if and .server .root.Values.ingress.enabled (include "bakehouse.edgeTLS" .root) .root.Values.tls.redirect -}}
{{- $_ := set $env "BAKEHOUSE_REDIRECT_TO_HTTPS" (dict "value" "true") -}}
{{- end -}}
{{- if and .server .root.Values.backendTLS.enabled -}}
{{- $_ := set $env "BAKEHOUSE_TLS_CERTIFICATE" (dict "value" "/etc/bakehouse/tls/tls.crt") -}}
{{- $_ := set $env "BAKEHOUSE_TLS_KEY" (dict "value" "/etc/bakehouse/tls/tls.key") -}}
{{- end -}}
{{- /* The check needs its packages too, or an image without them would be found out only by pods that do not start. */ -}}
{{- if .root.Values.tracing.enabled -}}
{{- $_ := set $env "BAKEHOUSE_TRACING" (dict "value" "true") -}}
{{- if .server -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" (dict "value" .root.Values.tracing.endpoint) -}}
{{- $_ := set $env "OTEL_SERVICE_NAME" (dict "value" .root.Release.Name) -}}
{{- end -}}
{{- end -}}
{{- $extra := dict -}}
{{- range .root.Values.extraEnv }}{{ $_ := set $extra .name . }}{{ end -}}
{{- range $name := keys $env | sortAlpha -}}
{{- if not (hasKey $extra $name) -}}
- {{ merge (dict "name" $name) (get $env $name) | toJson }}
{{ end }}
{{- end }}
{{- range .root.Values.extraEnv -}}
{{- if hasKey $extra .name -}}
{{- $one := get $extra .name | deepCopy -}}
{{- if not $.server -}}
{{- range $from := list "secretKeyRef" "configMapKeyRef" -}}
{{- with dig "valueFrom" $from dict $one }}{{ $_ := set . "optional" true }}{{ end -}}
{{- end -}}
{{- end -}}
- {{ toJson $one }}
{{ $_ := unset $extra .name }}
{{- end }}
{{- end }}
{{- end }}

{{/* A number as people write it: YAML's large whole numbers are floats, which print as 1e+06. */}}
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

{{/* What the pod of the server and those of its checks have in common; a ServiceAccount that the chart makes comes too
late for a check. */}}
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

{{/* "true" where the edge has a certificate, else nothing. */}}
{{- define "bakehouse.edgeTLS" -}}
{{- if ne .Values.tls.mode "none" }}true{{ end -}}
{{- end }}

{{/* All host names of both edges, as JSON. */}}
{{- define "bakehouse.hosts" -}}
{{- $ingress := .Values.ingress.enabled | ternary .Values.ingress.hosts list -}}
{{- $gateway := .Values.gateway.enabled | ternary .Values.gateway.hostnames list -}}
{{- concat $ingress $gateway | toJson -}}
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
The data of a self-signed Secret, as JSON: that of the live Secret as long as it is for the same names, so that an upgrade
changes nothing; else a new authority and a certificate of it. Takes root, name (of the Secret) and hosts.
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

{{/* Listeners of a Gateway or ListenerSet: plain HTTP for the redirect, or for all where there is no TLS; HTTPS. */}}
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

{{/* The listeners of one scheme that the chart makes, as JSON. Takes root and scheme. */}}
{{- define "bakehouse.ownListeners" -}}
{{- $create := .root.Values.gateway.create -}}
{{- $refs := list -}}
{{- $root := .root -}}
{{- $scheme := .scheme -}}
{{- range $index, $_ := .root.Values.gateway.hostnames -}}
{{- $refs = append $refs (dict "group" "gateway.networking.k8s.io" "kind" $create.kind "name" (include "bakehouse.name" $root) "sectionName" (printf "%s-%d" $scheme $index)) -}}
{{- end -}}
{{- toJson $refs -}}
{{- end }}

{{/* All Prometheus objects of the cluster, as JSON. Its name is in Helm's message when the user may not list them. */}}
{{- define "bakehouse.prometheuses, unless metrics.monitor.lookup is false" -}}
{{- (lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items | default list | toJson -}}
{{- end }}

{{/* What labels lack for a label selector to match, as JSON: {add: {label: value}, drop: [label]}. Takes selector and labels. */}}
{{- define "bakehouse.unselected" -}}
{{- $labels := .labels -}}
{{- $add := dict -}}
{{- $drop := list -}}
{{- range $key, $value := .selector.matchLabels -}}
{{- if ne (get $labels $key) $value }}{{ $_ := set $add $key $value }}{{ end -}}
{{- end -}}
{{- range .selector.matchExpressions -}}
{{- $there := hasKey $labels .key -}}
{{- $listed := and $there (has (get $labels .key) (default list .values)) -}}
{{- if and (eq .operator "In") (not $listed) }}{{ $_ := set $add .key (first .values) }}{{ end -}}
{{- if and (eq .operator "Exists") (not $there) }}{{ $_ := set $add .key "true" }}{{ end -}}
{{- if or (and (eq .operator "NotIn") $listed) (and (eq .operator "DoesNotExist") $there) }}{{ $drop = append $drop .key }}{{ end -}}
{{- end -}}
{{- dict "add" $add "drop" $drop | toJson -}}
{{- end }}

{{/* Why a Prometheus does not select an object of the release, a sentence for each reason; nothing if it does. Takes root,
prometheus, object (its kind), selector (the field, without Selector), labels (the object's) and value (that adds to them). */}}
{{- define "bakehouse.notSelectedBecause" -}}
{{- $own := .root.Release.Namespace -}}
{{- $value := .value -}}
{{- $spec := .prometheus.spec -}}
{{- $spaces := get $spec (printf "%sNamespaceSelector" .selector) -}}
{{- if not (kindIs "map" $spaces) -}}
{{- if ne $own .prometheus.metadata.namespace }}
It looks into its own namespace only: give it a {{ .selector }}NamespaceSelector, {} for all.
{{- end }}
{{- else -}}
{{- $missing := include "bakehouse.unselected" (dict "selector" $spaces "labels" (dict "kubernetes.io/metadata.name" $own)) | fromJson -}}
{{- if or $missing.drop (hasKey $missing.add "kubernetes.io/metadata.name") }}
It does not look into the namespace {{ $own }}: change its {{ .selector }}NamespaceSelector.
{{- else }}
{{- range $key, $wanted := $missing.add }}
It looks into namespaces with a label only; unless {{ $own }} has it:
  kubectl label namespace {{ $own }} {{ $key }}={{ $wanted }}
{{- end }}
{{- end }}
{{- end -}}
{{- $selector := get $spec (printf "%sSelector" .selector) -}}
{{- if not (kindIs "map" $selector) }}
It selects no {{ .object }} at all: give it a {{ .selector }}Selector, {} for all.
{{- else -}}
{{- $missing := include "bakehouse.unselected" (dict "selector" $selector "labels" .labels) | fromJson -}}
{{- range $key, $wanted := $missing.add }}
It wants the label {{ $key }}={{ $wanted }}, which this adds:
  --set-string '{{ $value }}.{{ $key | replace "." "\\." }}={{ $wanted }}'
{{- end }}
{{- range $missing.drop }}
It wants no {{ $.object }} with this value of the label {{ . }}: change its {{ $.selector }}Selector.
{{- end }}
{{- end -}}
{{- end }}

{{/* Whether the Prometheus objects of the cluster select what the release has for them. */}}
{{- define "bakehouse.prometheusHints" -}}
{{- $root := . -}}
{{- $objects := list -}}
{{- with .Values.metrics.monitor -}}
{{- if ne .kind "none" }}{{ $objects = append $objects (dict "object" .kind "selector" (untitle .kind) "labels" .labels "value" "metrics.monitor.labels") }}{{ end -}}
{{- end -}}
{{- with .Values.metrics.rules -}}
{{- if .enabled }}{{ $objects = append $objects (dict "object" "PrometheusRule" "selector" "rule" "labels" .labels "value" "metrics.rules.labels") }}{{ end -}}
{{- end -}}
{{- if and $objects .Values.metrics.monitor.lookup (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/Prometheus") -}}
{{- range $prometheus := include "bakehouse.prometheuses, unless metrics.monitor.lookup is false" . | fromJsonArray -}}
{{- range $objects -}}
{{- $labels := mergeOverwrite (include "bakehouse.labels" $root | fromYaml) .labels -}}
{{- $reasons := include "bakehouse.notSelectedBecause" (merge (dict "root" $root "prometheus" $prometheus "labels" $labels) .) }}
Prometheus {{ $prometheus.metadata.namespace }}/{{ $prometheus.metadata.name }} {{ if $reasons }}does not select{{ else }}selects{{ end }} the {{ .object }}.
{{- $reasons }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
