"""The embedded platform: one model-server process per revision, a real Envoy in front, no cluster.

Start at `platform.LocalPlatform`. This file imports nothing, because the supervisor's start-up time is everybody's.
"""
