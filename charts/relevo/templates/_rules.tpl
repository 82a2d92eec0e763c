{{/* What the operator may do where Rollouts are. Each line says what for. */}}
{{- define "relevo.rolloutRules" -}}
# The Rollouts: watch them, add the finalizer and the answer to a command, keep the state in the status.
- {apiGroups: [relevo.dev], resources: [rollouts], verbs: [get, list, watch, patch, update]}
- {apiGroups: [relevo.dev], resources: [rollouts/status], verbs: [get, patch, update]}
- {apiGroups: [relevo.dev], resources: [rollouts/finalizers], verbs: [update]}
# The models: read the split back, name the candidate, set its weight; and in the status, which revision KServe goes back to.
- {apiGroups: [serving.kserve.io], resources: [inferenceservices], verbs: [get, list, watch, patch]}
- {apiGroups: [serving.kserve.io], resources: [inferenceservices/status], verbs: [patch]}
# What KServe makes of them: which revision is ready and where the traffic goes. Knative retires what is no longer served.
- {apiGroups: [serving.knative.dev], resources: [revisions, routes], verbs: [get, list]}
# Blue and green: send users from one colour to the other. What a colour serves is its release's to say, so nothing is created here.
- {apiGroups: [serving.knative.dev], resources: [routes], verbs: [patch]}
# Why a candidate is not ready: its pods' waiting reasons and their Events. What happened: Events on the Rollout.
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [""], resources: [events], verbs: [get, list, watch, create, patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [get, list, watch, create, patch]}
# The load: Locust's master and workers, owned by the Rollout.
- {apiGroups: [apps], resources: [deployments], verbs: [get, create, patch, delete]}
- {apiGroups: [""], resources: [services], verbs: [get, create, patch, delete]}
# The samples that a report is drawn from.
- {apiGroups: [""], resources: [configmaps], verbs: [get, create, update, patch]}
{{- end }}
