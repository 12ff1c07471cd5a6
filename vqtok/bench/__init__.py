"""Load on a service, and what became of it: `vqtok bench`.

Open loop: requests are sent at times drawn beforehand, whatever the service does, as independent
callers would. Closed loop: so many callers, each sending its next request when it has its answer.
"""
