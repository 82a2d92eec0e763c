{{- define "route.labels" -}}
app.kubernetes.io/name: {{ .Values.model.name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
relevo.dev/model: {{ .Values.model.name }}
{{- end }}

{{/* What is refused because two values do not go together; the schema sees one at a time. */}}
{{- define "route.checked" -}}
{{- if not (has .Values.active .Values.colours) -}}
{{- fail (printf "active is %s, which is not among the installed colours (%s)" .Values.active (join ", " .Values.colours)) -}}
{{- end -}}
{{- if and (gt (int .Values.otherPercent) 0) (lt (len .Values.colours) 2) -}}
{{- fail (printf "otherPercent is %d, but only %s is installed" (int .Values.otherPercent) .Values.active) -}}
{{- end -}}
{{- end }}
