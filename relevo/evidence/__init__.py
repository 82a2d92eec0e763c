"""Where counts come from: Locust, and Envoy's own statistics.

`source` is the seam (`EvidenceSource`, `LoadGenerator`), `locust` and `envoy` implement it, `wire` is what the Locust process and
`locust` say to each other, `counts` the latency histogram they share, `locust_program` how Locust is started.
Import from the modules: this package imports nothing by itself, for the Locust process loads it too and starts faster so.
"""
