"""Load on an endpoint that speaks the Turbopuffer API: directly, through a gateway, or both side by side."""
