{{/* The pod of a submission: (list . submission "name of the ConfigMap"). */}}
{{- define "shardfuse.submitPod" -}}
{{- $root := index . 0 -}}{{- $submission := index . 1 -}}{{- $config := index . 2 -}}
{{ include "shardfuse.pod" $root }}
restartPolicy: Never
containers:
  - name: submit
    {{- include "shardfuse.container" (list $root false) | nindent 4 }}
    args:
      - submit
      - --coordinator={{ include "shardfuse.coordinator" $root }}
      - --spec=/etc/shardfuse/spec/merge.yaml
      - --wait
      - --log-format={{ $root.Values.log.format }}
      {{- with $submission.priority }}
      - --priority={{ int . }}
      {{- end }}
      {{- if $submission.force }}
      - --force
      {{- end }}
      {{- include "shardfuse.tlsFlags" $root | nindent 6 }}
    env:
      - {name: SHARDFUSE_LOG, value: {{ $root.Values.log.filter | quote }}}
    resources: {{- toYaml $root.Values.submit.resources | nindent 6 }}
    volumeMounts:
      - {name: spec, mountPath: /etc/shardfuse/spec, readOnly: true}
      {{- if ne $root.Values.tls.mode "insecure" }}
      - {name: tls, mountPath: /etc/shardfuse/tls, readOnly: true}
      {{- end }}
volumes:
  - name: spec
    configMap: {name: {{ $config }}}
  {{- if ne $root.Values.tls.mode "insecure" }}
  - name: tls
    secret: {secretName: {{ include "shardfuse.secret" (list $root "submitter") }}, defaultMode: 0440}
  {{- end }}
{{- end -}}
