"""The HTTP service around vqtok: routes, batching, limits, metrics. Start it with
`python -m service`; build it in a program with `service.app.create_app`.
"""
