"""KServe in Knative mode, on a cluster: one InferenceService, its Knative Route, and two of its revisions.

`platform` implements `relevo.rollout.platform.Platform` over `relevo.platforms.cluster_api`. All else is pure: `documents`, `service`,
`objects` and `pods` read Kubernetes' objects, `routes` says what they mean for a rollout, `changes` what to write next, `address` where a
revision answers.
docs/kserve.md says how KServe's canary is driven, and why so.
"""
