"""Who may ask a model: API keys, OIDC tokens, TLS and client certificates. Knows nothing of HTTP servers, models or rollouts.

`settings` is the file that switches it on; `gate` decides over a request by `keys`, `tokens` and `certificates`; `credential` is what
relevo's own requests carry, and `own` makes it on one machine. `relevo.serving.guard` is the hook in the model server.
"""
