{{/* The chart's name, not .Chart.Name: as a dependency under an alias the chart keeps its labels and object names. */}}
{{- define "acrpull-broker.name" -}}
{{- default "acrpull-broker" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 48 characters: the longest suffix that is added to it, "-headless", still leaves a valid name. */}}
{{- define "acrpull-broker.fullname" -}}
{{- $name := include "acrpull-broker.name" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name -}}{{- $full = .Release.Name -}}{{- end -}}
{{- default $full .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "acrpull-broker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "acrpull-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "acrpull-broker.labels" -}}
helm.sh/chart: {{ printf "acrpull-broker-%s" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "acrpull-broker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: broker
app.kubernetes.io/part-of: acrpull
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "acrpull-broker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "acrpull-broker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty: name the existing ServiceAccount, or set serviceAccount.create=true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "acrpull-broker.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Environment of the OpenTelemetry SDK; nothing when no collector is configured, then the process does not trace. */}}
{{- define "acrpull-broker.otelEnv" -}}
{{- $otel := .Values.otel -}}
{{- if $otel.endpoint -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_SERVICE_NAME
  value: acrpull-broker
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ .Release.Namespace }},k8s.pod.name=$(POD_NAME)
    {{- range $key, $value := $otel.resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $otel.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ $otel.protocol | quote }}
{{- with $otel.sampler }}
- name: OTEL_TRACES_SAMPLER
  value: {{ . | quote }}
{{- end }}
{{- with $otel.samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ . | quote }}
{{- end }}
{{- if $otel.headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ $otel.headersSecret.name }}
      key: {{ $otel.headersSecret.key }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The Secret with the listener's certificate: given by the user, or filled by cert-manager. */}}
{{- define "acrpull-broker.tlsSecretName" -}}
{{- $tls := .Values.tls -}}
{{- if and $tls.existingSecret $tls.certManager.enabled -}}
{{- fail "tls.existingSecret and tls.certManager.enabled are both set: keep the one that the certificate comes from" -}}
{{- else if $tls.existingSecret -}}
{{- $tls.existingSecret -}}
{{- else if $tls.certManager.enabled -}}
{{- printf "%s-tls" (include "acrpull-broker.fullname" .) -}}
{{- else -}}
{{- fail "the broker has no certificate: set tls.existingSecret to a Secret of type kubernetes.io/tls, or tls.certManager.enabled=true and tls.certManager.issuerRef" -}}
{{- end -}}
{{- end -}}

{{/* What callers must prove by a certificate: none, request or require. */}}
{{- define "acrpull-broker.clientAuth" -}}
{{- $tls := .Values.tls -}}
{{- $hasCa := or $tls.clientCA.secret $tls.clientCA.configMap -}}
{{- if and $tls.clientCA.secret $tls.clientCA.configMap -}}
{{- fail "tls.clientCA.secret and tls.clientCA.configMap are both set: keep the one that holds the CA of callers' certificates" -}}
{{- else if and (has $tls.clientAuth (list "request" "require")) (not $hasCa) -}}
{{- fail (printf "tls.clientAuth=%s, but nothing says who signs callers' certificates: set tls.clientCA.secret or tls.clientCA.configMap" $tls.clientAuth) -}}
{{- end -}}
{{- default (ternary "require" "none" (not (empty $hasCa))) $tls.clientAuth -}}
{{- end -}}

{{/* The entry of config.clusters for the cluster that the broker runs in. Its files are mounted next to config.yaml. */}}
{{- define "acrpull-broker.localCluster" -}}
{{- with .Values.localCluster -}}
name: {{ .name | quote }}
issuer: {{ .issuer | quote }}
jwks:
  url: {{ .jwksUrl | quote }}
  caBundle: local-cluster/ca.crt
  # the API server does not show its keys to anonymous callers
  tokenFile: local-cluster/token
callerAudiences: {{ toJson .callerAudiences }}
subjectAudiences: {{ toJson .subjectAudiences }}
maxTokenLifetimeSeconds: {{ .maxTokenLifetimeSeconds | int }}
syncers:
{{- range .syncers }}
- {{ tpl . $ | quote }}
{{- end }}
{{- with .operators }}
operators:
{{- range . }}
- {{ tpl . $ | quote }}
{{- end }}
{{- end }}
{{- with .clientCertificates }}
clientCertificates:
{{- range . }}
- {{ tpl . $ | quote }}
{{- end }}
{{- end }}
{{- with .workloads.namespaces }}
workloads: {namespaces: {{ toJson . }}}
{{- end }}
{{- with .defaultTenant }}
defaultTenant: {{ . | quote }}
{{- end }}
grants: {{ toJson .grants }}
{{- /* An empty list is none to the broker, which refuses it; here it is what is given where nothing is. */}}
{{- $ceilings := dict -}}
{{- range $name, $list := .ceilings -}}
{{- if $list -}}{{- $_ := set $ceilings $name $list -}}{{- end -}}
{{- end }}
{{- with $ceilings }}
ceilings: {{ toJson . }}
{{- end }}
{{- with .limits }}
limits: {{ toJson . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* What the process reads of its configuration when it starts, and never again: how Azure is reached, where records go. */}}
{{- define "acrpull-broker.egress" -}}
{{- $egress := default dict .Values.config.egress -}}
{{- $bundle := get .Values.configFiles (default "" $egress.caBundle) -}}
{{- toJson (list .Values.config.clouds $egress .Values.egressCaBundle $bundle (include "acrpull-broker.auditSink" .) .Values.audit.file) -}}
{{- end -}}

{{/* An off without quotes is false to Helm; it means the same. */}}
{{- define "acrpull-broker.auditSink" -}}
{{- $sink := toString .Values.audit.sink -}}
{{- ternary "off" $sink (eq $sink "false") -}}
{{- end -}}

{{/* Fails where the file of the audit log could not be written: what is not on a mounted volume is read-only. */}}
{{- define "acrpull-broker.checkAuditFile" -}}
{{- $file := required "audit.file is empty: name the file on a mounted volume, or set audit.sink to stdout" .Values.audit.file -}}
{{- $isMounted := false -}}
{{- range .Values.extraVolumeMounts -}}
{{- if and (not .readOnly) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $file) -}}
{{- $isMounted = true -}}
{{- end -}}
{{- end -}}
{{- if not $isMounted -}}
{{- fail (printf "the audit log could not be written to %s: mount a volume of extraVolumes at its folder by extraVolumeMounts, not readOnly" $file) -}}
{{- end -}}
{{- end -}}

{{/* The section audit of config.yaml; the key is mounted beside it. */}}
{{- define "acrpull-broker.audit" -}}
{{- $sink := include "acrpull-broker.auditSink" . -}}
{{- if eq $sink "file" -}}
{{- include "acrpull-broker.checkAuditFile" . -}}
{{- end -}}
{{- with .Values.audit -}}
{{- if and (eq $sink "off") (eq .onBlocked "refuse") -}}
{{- fail "audit.onBlocked is refuse and audit.sink is off: there is no record to wait for, set another sink, or audit.onBlocked=continue" -}}
{{- end -}}
{{- if eq $sink "file" }}
sink: {file: {{ .file | quote }}}
{{- else if .file }}
{{- fail "audit.file is set and audit.sink is not file: set audit.sink=file, or leave out audit.file" }}
{{- else }}
sink: {{ $sink | quote }}
{{- end }}
onBlocked: {{ .onBlocked }}
strangersPerSecond: {{ .strangersPerSecond | int }}
{{- if .existingSecret }}
keyFile: audit/key
{{- end }}
{{- end -}}
{{- end -}}

{{/*
Clouds in which an identity trusts the broker's own token, each with the audience of that token, as JSON. An identity that
names a file has its token from elsewhere.
*/}}
{{- define "acrpull-broker.identityTokens" -}}
{{- $tokens := dict -}}
{{- range $identity := .Values.config.identities -}}
{{- if kindIs "map" $identity.source -}}
{{- if not (default dict $identity.source.projectedToken).file -}}
{{- $cloud := default "PublicCloud" $identity.cloud -}}
{{- $audience := get $.Values.identityTokens.audiences $cloud -}}
{{- if not $audience -}}
{{- fail (printf "no audience is known for the token of identity %s: set identityTokens.audiences.%s" $identity.name $cloud) -}}
{{- end -}}
{{- $_ := set $tokens $cloud $audience -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $tokens -}}
{{- end -}}

{{/* The content of config.yaml. */}}
{{- define "acrpull-broker.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.localCluster.enabled -}}
{{- $local := include "acrpull-broker.localCluster" . | fromYaml -}}
{{- range $local.callerAudiences -}}
{{- if has . $local.subjectAudiences -}}
{{- fail (printf "audience %s is in both localCluster.callerAudiences and localCluster.subjectAudiences: a token must never serve both purposes, remove it from one" .) -}}
{{- end -}}
{{- end -}}
{{- range $config.clusters -}}
{{- if eq .name $local.name -}}
{{- fail (printf "config.clusters and localCluster.name both have the name %s: rename one of the two clusters" .name) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "clusters" (append (default list $config.clusters) $local) -}}
{{- end -}}
{{- if not $config.clusters -}}
{{- fail "nobody could ask this broker for anything: add a cluster to config.clusters, or set localCluster.enabled=true" -}}
{{- end -}}
{{- if eq (include "acrpull-broker.clientAuth" .) "none" -}}
{{- range $config.clusters -}}
{{- if .clientCertificates -}}
{{- fail (printf "cluster %s is bound to client certificates, and callers are not asked for any: set tls.clientCA, or remove clientCertificates" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $identity := $config.identities -}}
{{- if kindIs "map" $identity.source -}}
{{- if not (default dict $identity.source.projectedToken).file -}}
{{- $file := printf "/var/run/secrets/acrpull-broker-identity/%s/token" (default "PublicCloud" $identity.cloud) -}}
{{- $_ := set $identity "source" (dict "projectedToken" (dict "file" $file)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.egressCaBundle -}}
{{- $egress := default dict $config.egress -}}
{{- if $egress.caBundle -}}
{{- fail "egressCaBundle and config.egress.caBundle are both set: put the bundle into one of them" -}}
{{- end -}}
{{- $_ := set $config "egress" (merge (dict "caBundle" "egress-ca.pem") $egress) -}}
{{- end -}}
apiVersion: config.acrpull.dev/v1alpha1
kind: BrokerConfiguration
{{- range $section := list "clusters" "clouds" "identities" "grants" "limits" "egress" }}
{{- with get $config $section }}
{{ dict $section . | toYaml }}
{{- end }}
{{- end }}
audit:
  {{- include "acrpull-broker.audit" . | trim | nindent 2 }}
{{- end -}}
