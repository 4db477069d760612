{{- define "bakehouse.problems.names" -}}
{{- if not (or .Values.image.tag .Values.image.digest) }}
- >-
  No image to serve: set image.tag to the model version of an image (make image TAG=...), or set image.digest.
{{- end }}
{{- $name := include "bakehouse.name" . }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) }}
- >-
  A Service cannot be named {{ $name }}: set fullnameOverride to lowercase letters, digits and dashes, with a letter first.
{{- end }}
{{- end }}
