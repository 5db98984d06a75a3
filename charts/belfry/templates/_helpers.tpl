{{/* The first part of the names of all objects. Fails if no Service may have it: a release's name may begin with a digit and contain dots, a Service's name may not. */}}
{{- define "belfry.fullname" -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $full = $full | trunc 40 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) -}}
{{- fail (printf "the objects of release %q would be named %q, which no Service may be: set fullnameOverride, such as belfry" .Release.Name $full) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{/* Fails unless it is a range of addresses, written with its first address. Takes (dict "value" "network.deniedRanges" "range" "10.0.0.0/8"). */}}
{{- define "belfry.range" -}}
{{- $pattern := `^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}(/(3[0-2]|[12]?[0-9]))?|(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:|([0-9a-fA-F]{1,4}:){1,6}(:[0-9a-fA-F]{1,4}){1,1}|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}|([0-9a-fA-F]{1,4}:){1,1}(:[0-9a-fA-F]{1,4}){1,6}|:(:[0-9a-fA-F]{1,4}){1,7}|::)(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$` -}}
{{- if not (regexMatch $pattern .range) -}}
{{- fail (printf "%s: %s is not a range of addresses such as 10.0.0.0/8 or fd00::/8, with at most 32 bits, or 128 for IPv6" .value .range) -}}
{{- end -}}
{{- if and (contains "." .range) (contains "/" .range) -}}
{{- $parts := regexSplit "[./]" .range -1 -}}
{{- $address := 0 -}}
{{- range slice $parts 0 4 -}}{{- $address = add (mul $address 256) (atoi .) -}}{{- end -}}
{{- $size := 1 -}}
{{- range until (sub 32 (atoi (last $parts)) | int) -}}{{- $size = mul $size 2 -}}{{- end -}}
{{- if ne (mod $address $size | int64) 0 -}}
{{- fail (printf "%s: %s has bits behind its length: write the first address of the range" .value .range) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks of values that values.schema.json can't express. */}}
{{- define "belfry.checks" -}}
{{- range $key, $_ := .Values.commonLabels -}}
{{- if or (has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/part-of" "helm.sh/chart")) (hasPrefix "rbac.authorization.k8s.io/" $key) -}}
{{- fail (printf "commonLabels: %s is a label that the chart sets itself, and selects by: leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- with .Values.admission.clientAuth -}}
{{- if and .configMap .secret -}}
{{- fail "admission.clientAuth: the authority is in a configMap or in a secret: give one of them, not both" -}}
{{- end -}}
{{- end -}}
{{- range $value, $ranges := dict "network.deniedRanges" .Values.network.deniedRanges "network.allowedRanges" .Values.network.allowedRanges "networkPolicy.apiServer.cidrs" .Values.networkPolicy.apiServer.cidrs -}}
{{- range $ranges -}}
{{- include "belfry.range" (dict "value" $value "range" .) -}}
{{- end -}}
{{- end -}}
{{- range .Values.rbac.mayReachHub -}}
{{- if and (eq .kind "ServiceAccount") (not .namespace) -}}
{{- fail (printf "rbac.mayReachHub: the ServiceAccount %s needs its namespace" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select a component's pods. Takes (dict "root" $ "component" "hub"). */}}
{{- define "belfry.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object of a component. Takes (dict "root" $ "component" "hub"). */}}
{{- define "belfry.labels" -}}
{{ include "belfry.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: belfry
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "belfry.image" -}}
{{- $image := .Values.image -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{- define "belfry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "belfry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The operator's rights in a namespace that it watches. A test compares them with what its code needs. */}}
{{- define "belfry.operatorRules" -}}
- apiGroups: [belfry.dev]
  resources: [notificationchannels, alertrules, schedules, bookableresources]
  verbs: [get, list, watch]
- apiGroups: [belfry.dev]
  resources: [notificationchannels/status, alertrules/status, schedules/status, bookableresources/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* What every pod of the chart may reach: DNS and the API server. */}}
{{- define "belfry.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Where a component's pods may run. Takes the component's values. */}}
{{- define "belfry.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
