{{/*
Renders nothing. Values that their schema accepts one by one and that do not go together: refused here, with the name of
the value, before a Pod ends on them.
*/}}
{{- define "acrpull-syncer.checks" -}}
{{- include "acrpull-syncer.checkLease" . -}}
{{- include "acrpull-syncer.checkExtraArgs" . -}}
{{- include "acrpull-syncer.checkDefaultServer" . -}}
{{- end -}}

{{/* A duration as Go writes it, in milliseconds. */}}
{{- define "acrpull-syncer.milliseconds" -}}
{{- $units := dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 -}}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* What the syncer itself checks at its start. */}}
{{- define "acrpull-syncer.checkLease" -}}
{{- with .Values.leaderElection -}}
{{- if .enabled -}}
{{- $lease := include "acrpull-syncer.milliseconds" .leaseDuration | int64 -}}
{{- $renew := include "acrpull-syncer.milliseconds" .renewDeadline | int64 -}}
{{- $retry := include "acrpull-syncer.milliseconds" .retryPeriod | int64 -}}
{{- if le $lease $renew -}}
{{- fail (printf "leaderElection.leaseDuration=%s must be longer than leaderElection.renewDeadline=%s" .leaseDuration .renewDeadline) -}}
{{- end -}}
{{- if or (le $retry 0) (le (mul $renew 5) (mul $retry 6)) -}}
{{- fail (printf "leaderElection.retryPeriod=%s must be more than nothing and, with a fifth added, shorter than leaderElection.renewDeadline=%s" .retryPeriod .renewDeadline) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Most flags end the process when they are given twice, and several have to agree with other objects of the chart. */}}
{{- define "acrpull-syncer.checkExtraArgs" -}}
{{- $owners := dict
  "--broker-address" "broker.address"
  "--broker-token-file" "broker.audience"
  "--broker-ca-file" "broker.caBundle"
  "--broker-client-cert-file" "broker.clientCertificate"
  "--broker-client-key-file" "broker.clientCertificate"
  "--service-account-token-audience" "tokenAudience"
  "--label-selector" "labelSelector"
  "--service-account-ref" "serviceAccountRef"
  "--namespace" "namespaces"
  "--secrets-access" "secretsAccess"
  "--allowed-acr-server-suffixes" "allowedRegistryDomains"
  "--default-acr-server" "v1beta1Defaults.acrServer"
  "--default-managed-identity-client-id" "v1beta1Defaults.managedIdentityClientID"
  "--default-managed-identity-resource-id" "v1beta1Defaults.managedIdentityResourceID"
  "--workers" "workers"
  "--leader-elect" "leaderElection.enabled"
  "--leader-election-namespace" "leaderElection.enabled"
  "--leader-election-id" "fullnameOverride"
  "--leader-elect-lease-duration" "leaderElection.leaseDuration"
  "--leader-elect-renew-deadline" "leaderElection.renewDeadline"
  "--leader-elect-retry-period" "leaderElection.retryPeriod"
  "--log-level" "log.level"
  "--log-format" "log.format"
-}}
{{- $listeners := list "--admin-address" "--metrics-bind-address" "--health-probe-bind-address" -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexFind "^[^= ]+" . -}}
{{- if hasKey $owners $flag -}}
{{- fail (printf "extraArgs: %s is set by the chart: set %s instead" $flag (get $owners $flag)) -}}
{{- end -}}
{{- if has $flag $listeners -}}
{{- fail (printf "extraArgs: %s cannot be set: the chart's probes and its port are at 8081, which serves metrics too" $flag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The default would complete bindings into ones that the syncer refuses. */}}
{{- define "acrpull-syncer.checkDefaultServer" -}}
{{- $server := lower .Values.v1beta1Defaults.acrServer -}}
{{- if $server -}}
{{- $isAllowed := false -}}
{{- range .Values.allowedRegistryDomains -}}
{{- if or (eq $server .) (hasSuffix (printf ".%s" .) $server) -}}{{- $isAllowed = true -}}{{- end -}}
{{- end -}}
{{- if not $isAllowed -}}
{{- fail (printf "v1beta1Defaults.acrServer=%s is under none of allowedRegistryDomains (%s): add its domain" $server (join ", " .Values.allowedRegistryDomains)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
