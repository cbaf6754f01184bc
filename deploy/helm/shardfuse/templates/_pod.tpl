{{/* What every pod's spec begins with. */}}
{{- define "shardfuse.pod" -}}
serviceAccountName: {{ include "shardfuse.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What every container's spec begins with: (list . arithmetic). */}}
{{- define "shardfuse.container" -}}
image: {{ include "shardfuse.image" . }}
imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Labels that a cloud's identity webhook looks for. */}}
{{- define "shardfuse.identity" -}}
{{- if .Values.workloadIdentity.azure.clientId }}
azure.workload.identity/use: "true"
{{- end }}
{{- end -}}

{{- define "shardfuse.env" -}}
env:
  - {name: SHARDFUSE_LOG, value: {{ .Values.log.filter | quote }}}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Flags of coordinator, workers and job. */}}
{{- define "shardfuse.flags" -}}
- --log-format={{ .Values.log.format }}
- --health=0.0.0.0:7072
{{- if .Values.metrics.enabled }}
- --http=0.0.0.0:7071
{{- end }}
{{- if .Values.stores }}
- --stores=/etc/shardfuse/stores/stores.yaml
{{- end }}
{{- end -}}

{{- define "shardfuse.tlsFlags" -}}
{{- if eq .Values.tls.mode "insecure" -}}
- --insecure
{{- else -}}
- --tls-ca=/etc/shardfuse/tls/ca.crt
- --tls-cert=/etc/shardfuse/tls/tls.crt
- --tls-key=/etc/shardfuse/tls/tls.key
{{- end -}}
{{- end -}}

{{/* Where stores and certificates are mounted; and their volumes, of a role: (list . "worker"). */}}
{{- define "shardfuse.mounts" -}}
{{- if .Values.stores }}
- {name: stores, mountPath: /etc/shardfuse/stores, readOnly: true}
{{- end }}
{{- if ne .Values.tls.mode "insecure" }}
- {name: tls, mountPath: /etc/shardfuse/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "shardfuse.volumes" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.stores }}
- name: stores
  configMap: {name: {{ include "shardfuse.name" $root }}-stores}
{{- end }}
{{- if ne $root.Values.tls.mode "insecure" }}
- name: tls
  secret: {secretName: {{ include "shardfuse.secret" . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* Pods of one role apart from each other: each brings its own network. (list . "worker") */}}
{{- define "shardfuse.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "shardfuse.selector" (index . 0) | nindent 8 }}
        app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* A worker's resources: the budget, a third and 128 MiB more; a GPU. */}}
{{- define "shardfuse.resources" -}}
{{- $memory := printf "%dMi" (add (div (mul (int .Values.worker.memoryMiB) 4) 3) 128) -}}
{{- $requests := dict "cpu" .Values.worker.cpu "memory" $memory -}}
{{- $limits := dict "memory" $memory -}}
{{- if eq .Values.device "cuda" -}}
{{- $_ := set $requests "nvidia.com/gpu" 1 -}}
{{- $_ := set $limits "nvidia.com/gpu" 1 -}}
{{- end -}}
resources:
  requests: {{- toYaml (mergeOverwrite $requests (.Values.worker.resources.requests | default dict)) | nindent 4 }}
  limits: {{- toYaml (mergeOverwrite $limits (.Values.worker.resources.limits | default dict)) | nindent 4 }}
{{- end -}}

{{/* Where a worker's pods go. */}}
{{- define "shardfuse.workerPlace" -}}
{{- with .Values.worker.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.worker.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.worker.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- $tolerations := .Values.worker.tolerations -}}
{{- if eq .Values.device "cuda" -}}
{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (list . "" or a service's name): how a probe asks. */}}
{{- define "shardfuse.probe" -}}
{{- $root := index . 0 -}}{{- $service := index . 1 -}}
{{- if eq $root.Values.probes "grpc" -}}
grpc: {port: 7072{{ if $service }}, service: {{ $service }}{{ end }}}
{{- else -}}
exec: {command: [/usr/bin/shardfuse, health, --coordinator=http://127.0.0.1:7072{{ if $service }}, --service={{ $service }}{{ end }}]}
{{- end -}}
{{- end -}}
