"""Where traffic is shifted: `local` (processes behind Envoy on this machine). `manifest` reads what all of them are given."""
