{{/* The chart's name, not .Chart.Name: as a dependency under an alias the chart keeps its labels and object names. */}}
{{- define "acrpull-syncer.name" -}}
{{- default "acrpull-syncer" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 48 characters: the longest suffix that is added to it, "-serviceaccount", still leaves a valid name. */}}
{{- define "acrpull-syncer.fullname" -}}
{{- $name := include "acrpull-syncer.name" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if contains $name .Release.Name -}}{{- $full = .Release.Name -}}{{- end -}}
{{- default $full .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "acrpull-syncer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "acrpull-syncer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "acrpull-syncer.labels" -}}
helm.sh/chart: {{ printf "acrpull-syncer-%s" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "acrpull-syncer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: syncer
app.kubernetes.io/part-of: acrpull
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "acrpull-syncer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "acrpull-syncer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty: name the existing ServiceAccount, or set serviceAccount.create=true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The user name under which the syncer calls the API server: the admission policies apply to it alone. */}}
{{- define "acrpull-syncer.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "acrpull-syncer.serviceAccountName" . }}
{{- end -}}

{{- define "acrpull-syncer.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "acrpull-syncer.brokerAddress" -}}
{{- $address := tpl .Values.broker.address . -}}
{{- required "broker.address is empty: set it to the URL of the broker, such as --set broker.address=https://acrpull-broker.example.com:8443" $address -}}
{{- end -}}

{{/* The Secret with the syncer's own certificate; empty where there is none. */}}
{{- define "acrpull-syncer.clientSecretName" -}}
{{- $own := .Values.broker.clientCertificate -}}
{{- if and $own.secretName $own.certManager.enabled -}}
{{- fail "broker.clientCertificate.secretName and broker.clientCertificate.certManager.enabled are both set: keep the one that the certificate comes from" -}}
{{- else if $own.certManager.enabled -}}
{{- printf "%s-client-tls" (include "acrpull-syncer.fullname" .) -}}
{{- else -}}
{{- $own.secretName -}}
{{- end -}}
{{- end -}}

{{/* Environment of the OpenTelemetry SDK, after POD_NAME; nothing when no collector is configured, then the process does not trace. */}}
{{- define "acrpull-syncer.otelEnv" -}}
{{- $otel := .Values.otel -}}
{{- if $otel.endpoint -}}
- name: OTEL_SERVICE_NAME
  value: acrpull-syncer
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

{{/* A CEL list of strings. The schema allows no quote and no backslash in the items. */}}
{{- define "acrpull-syncer.celList" -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}'{{ $item }}'{{ end }}]
{{- end -}}

{{/* The one match condition of every policy that bounds the syncer: nobody else's requests are judged, so failing closed is safe. */}}
{{- define "acrpull-syncer.matchSyncer" -}}
- name: syncer
  expression: request.userInfo.username == '{{ include "acrpull-syncer.username" . }}'
{{- end -}}

{{/* Puts a policy into effect everywhere: denied and written to the audit log. No parameters, so nothing can be deleted that it needs. */}}
{{- define "acrpull-syncer.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "acrpull-syncer.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny, Audit]
{{- end -}}

{{/*
The verbs that the syncer uses, and one for the hand-over from Azure/msi-acrpull. They still reach far: create and patch
on secrets every Secret, patch on serviceaccounts every link, create on serviceaccounts/token every identity. RBAC cannot
say it any narrower, the admission policies of this chart do.
*/}}
{{- define "acrpull-syncer.rules" -}}
rules:
# patch is for the hand-over from Azure/msi-acrpull: only its finalizer, see policy-binding
- apiGroups: [acrpull.microsoft.com, msi-acrpull.microsoft.com]
  resources: [acrpullbindings]
  verbs: [list, watch, patch]
- apiGroups: [acrpull.microsoft.com, msi-acrpull.microsoft.com]
  resources: [acrpullbindings/status]
  verbs: [patch]
# nothing is served there: it is what an API server with OwnerReferencesPermissionEnforcement asks of whoever writes an
# owner whose deletion waits for the Secret's, as Azure/msi-acrpull does
- apiGroups: [acrpull.microsoft.com, msi-acrpull.microsoft.com]
  resources: [acrpullbindings/finalizers]
  verbs: [update]
{{- if eq .Values.secretsAccess "write-only" }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch]
{{- else }}
# get, list and watch are for metadata; the API has no right that is smaller
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, get, list, watch]
{{- end }}
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch, patch]
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
