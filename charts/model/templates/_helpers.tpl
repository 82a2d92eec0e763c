{{/* The environment's name, MODEL-COLOUR. Not the release's: the Route finds it by the model and the colour. */}}
{{- define "model.name" -}}
{{ .Values.model.name }}-{{ .Values.colour }}
{{- end }}

{{- define "model.labels" -}}
app.kubernetes.io/name: {{ .Values.model.name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.model.version | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
relevo.dev/model: {{ .Values.model.name }}
relevo.dev/colour: {{ .Values.colour }}
{{- end }}

{{- define "model.storageUri" -}}
{{ .Values.model.storageUri | default (printf "oci://dev.local/%s:%s" .Values.model.name .Values.model.version) }}
{{- end }}

{{/* What is refused because two values do not go together; the schema sees one at a time. */}}
{{- define "model.checked" -}}
{{- if gt (int .Values.scaling.minReplicas) (int .Values.scaling.maxReplicas) -}}
{{- fail (printf "scaling.minReplicas (%d) is above scaling.maxReplicas (%d)" (int .Values.scaling.minReplicas) (int .Values.scaling.maxReplicas)) -}}
{{- end -}}
{{- end }}
