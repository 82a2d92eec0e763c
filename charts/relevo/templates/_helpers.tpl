{{/* Name of the release's objects. */}}
{{- define "relevo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Name of the operator's objects. */}}
{{- define "relevo.operator" -}}
{{ include "relevo.fullname" . }}-operator
{{- end }}

{{- define "relevo.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "relevo.operator" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{/* What selects the operator's pods; must never change within a release. */}}
{{- define "relevo.selector" -}}
app.kubernetes.io/name: relevo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "relevo.labels" -}}
app.kubernetes.io/name: relevo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The namespaces with Rollouts, as a JSON list. Empty for all of them. */}}
{{- define "relevo.namespaces" -}}
{{- if .Values.watch.allNamespaces -}}
[]
{{- else -}}
{{ .Values.watch.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end -}}
{{- end }}

{{- define "relevo.operatorImage" -}}
{{ .Values.operator.image.repository }}:{{ .Values.operator.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "relevo.serverImage" -}}
{{ .Values.runtime.image.repository }}:{{ .Values.runtime.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What Pod Security "restricted" asks of a pod and of a container, and more: no writable root. */}}
{{- define "relevo.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "relevo.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What model servers demand of whoever asks, as `python -m relevo.serving --access` takes it; empty demands nothing. */}}
{{- define "relevo.access" -}}
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
{{- if $access.tls.secret -}}
{{- $tls := dict "certificate" "/etc/relevo/tls/tls.crt" "key" "/etc/relevo/tls/tls.key" -}}
{{- if $access.tls.clientCertificates -}}{{- $_ := set $tls "clientCa" "/etc/relevo/tls/ca.crt" -}}{{- end -}}
{{- $_ := set $found "tls" $tls -}}
{{- else if $access.tls.clientCertificates -}}
{{- fail "access.tls.clientCertificates needs access.tls.secret" -}}
{{- end -}}
{{- if $found -}}
{{- $_ := set $found "metrics" $access.metrics -}}
{{ toJson $found }}
{{- else if eq $access.metrics "closed" -}}
{{- fail "access.metrics is closed, but nothing says who may read them: set access.keysSecret, access.oidc or access.tls" -}}
{{- end -}}
{{- end }}

{{/* The Secrets behind it: where each is mounted, by its name. */}}
{{- define "relevo.accessSecrets" -}}
{{- $access := .Values.access -}}
{{- $found := dict -}}
{{- if $access.keysSecret -}}{{- $_ := set $found "keys" $access.keysSecret -}}{{- end -}}
{{- if $access.oidc.caSecret -}}{{- $_ := set $found "issuer" $access.oidc.caSecret -}}{{- end -}}
{{- if $access.tls.secret -}}{{- $_ := set $found "tls" $access.tls.secret -}}{{- end -}}
{{ toJson $found }}
{{- end }}
