"""The load: a Locust file that replays held-out rows as V2 requests (`v2`), and the parts it is made of."""
