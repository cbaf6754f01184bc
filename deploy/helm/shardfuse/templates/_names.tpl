{{- define "shardfuse.name" -}}
{{- if contains "shardfuse" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-shardfuse" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels of everything. */}}
{{- define "shardfuse.labels" -}}
{{ include "shardfuse.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Labels that never change: what selectors use. */}}
{{- define "shardfuse.selector" -}}
app.kubernetes.io/name: shardfuse
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "shardfuse.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "shardfuse.name" .) -}}
{{- end -}}

{{/* (list . arithmetic): only what does arithmetic takes the image with cuBLAS. */}}
{{- define "shardfuse.image" -}}
{{- $root := index . 0 -}}
{{- $suffix := and (index . 1) (eq $root.Values.device "cuda") | ternary "-cuda" "" -}}
{{- if $root.Values.image.digest -}}
{{ $root.Values.image.repository }}@{{ $root.Values.image.digest }}
{{- else -}}
{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default (printf "%s%s" $root.Chart.AppVersion $suffix) }}
{{- end -}}
{{- end -}}

{{/* The Secret of a role: (list . "worker"). */}}
{{- define "shardfuse.secret" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}
{{- index $root.Values.tls.secrets $role | default (printf "%s-%s-tls" (include "shardfuse.name" $root) $role) -}}
{{- end -}}

{{/* The coordinator's URL. */}}
{{- define "shardfuse.coordinator" -}}
{{- $scheme := eq .Values.tls.mode "insecure" | ternary "http" "https" -}}
{{- if eq .Values.mode "job" -}}
{{ $scheme }}://{{ include "shardfuse.name" . }}-0.{{ include "shardfuse.name" . }}:7070
{{- else -}}
{{ $scheme }}://{{ include "shardfuse.name" . }}-coordinator:7070
{{- end -}}
{{- end -}}
