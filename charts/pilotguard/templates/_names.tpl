{{/* The name of everything that this release creates, and the operator's instance. */}}
{{- define "pilotguard.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pilotguard.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pilotguard.labels" -}}
{{ include "pilotguard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The operator as the API server knows it. */}}
{{- define "pilotguard.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "pilotguard.name" . }}
{{- end -}}

{{- define "pilotguard.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do to the metadata of a workload of any kind, and what a policy about that needs to know. */}}
{{- define "pilotguard.byTheOperator" -}}
matchConditions:
- name: by-the-operator
  expression: request.userInfo.username == '{{ include "pilotguard.user" . }}'
variables:
- name: before
  expression: oldObject.metadata.?annotations.orValue({})
- name: after
  expression: object.metadata.?annotations.orValue({})
- name: touched
  expression: >-
    variables.before.map(key, key).filter(key, !(key in variables.after))
    + variables.after.map(key, key).filter(key, !(key in variables.before) || variables.before[key] != variables.after[key])
{{- end -}}

{{- define "pilotguard.workloadMetadata" -}}
- expression: >-
    variables.touched.all(key, key.startsWith('pilotguard.dev/') || key == 'kubectl.kubernetes.io/last-applied-configuration')
  messageExpression: >-
    'pilotguard may not change annotations other than its own: ' + variables.touched.join(', ')
- expression: >-
    object.metadata.?labels == oldObject.metadata.?labels
    && object.metadata.?finalizers == oldObject.metadata.?finalizers
    && object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
  message: pilotguard may not change labels, finalizers or owners of a workload
{{- end -}}

{{/* By a dry-run the operator finds out what other admission makes of its writes; nothing is stored. */}}
{{- define "pilotguard.dryRun" -}}
(has(request.dryRun) && request.dryRun)
{{- end -}}

{{/* Namespaces without pilots: their workloads run the cluster, or are pilotguard itself. */}}
{{- define "pilotguard.notInSystemNamespaces" -}}
!(request.namespace in ['kube-system', 'kube-public', 'kube-node-lease', '{{ .Release.Namespace }}'])
{{- end -}}

{{/* The operator lowers replicas and restores the parked number. */}}
{{- define "pilotguard.workloadReplicas" -}}
- expression: >-
    object.spec.replicas <= oldObject.spec.replicas
    || variables.before[?'pilotguard.dev/parked-replicas'].orValue('') == string(object.spec.replicas)
  message: pilotguard may lower replicas, or restore the number in pilotguard.dev/parked-replicas
- expression: >-
    variables.after[?'pilotguard.dev/parked-replicas'].orValue(string(oldObject.spec.replicas))
    in [string(oldObject.spec.replicas), variables.before[?'pilotguard.dev/parked-replicas'].orValue('')]
  message: pilotguard may park only the replicas that a workload has
{{- end -}}
