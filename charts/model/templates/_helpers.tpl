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

{{/* What the model's server demands of whoever asks, as `python -m relevo.serving --access` takes it; empty leaves it to the runtime. */}}
{{- define "model.access" -}}
{{- $access := .Values.access -}}
{{- $found := dict -}}
{{- if $access.keysSecret -}}
{{- $_ := set $found "keys" "/etc/relevo/keys/keys.jsonl" -}}
{{- end -}}
{{- if $access.oidc.issuer -}}
{{- $oidc := dict "issuer" $access.oidc.issuer "audience" (required "access.oidc.audience is needed beside access.oidc.issuer" $access.oidc.audience) -}}
{{- if $access.oidc.claims -}}{{- $_ := set $oidc "claims" $access.oidc.claims -}}{{- end -}}
{{- if $access.oidc.caSecret -}}{{- $_ := set $oidc "caFile" "/etc/relevo/issuer/ca.crt" -}}{{- end -}}
{{- $_ := set $found "oidc" $oidc -}}
{{- else if or $access.oidc.audience $access.oidc.claims $access.oidc.caSecret -}}
{{- fail "access.oidc has no issuer, so nothing else of it would be looked at" -}}
{{- end -}}
{{- if $found -}}
{{- $_ := set $found "metrics" $access.metrics -}}
{{ toJson $found }}
{{- else if eq $access.metrics "closed" -}}
{{- fail "access.metrics is closed, but nothing says who may read them: set access.keysSecret or access.oidc" -}}
{{- end -}}
{{- end }}

{{/* The Secrets behind it: where each is mounted, by its name. */}}
{{- define "model.accessSecrets" -}}
{{- $found := dict -}}
{{- if .Values.access.keysSecret -}}{{- $_ := set $found "keys" .Values.access.keysSecret -}}{{- end -}}
{{- if .Values.access.oidc.caSecret -}}{{- $_ := set $found "issuer" .Values.access.oidc.caSecret -}}{{- end -}}
{{ toJson $found }}
{{- end }}

{{/* The port on which the issuer answers. */}}
{{- define "model.issuerPort" -}}
{{- $url := urlParse .Values.access.oidc.issuer -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{ $port | default (ternary "443" "80" (eq $url.scheme "https")) }}
{{- end }}
