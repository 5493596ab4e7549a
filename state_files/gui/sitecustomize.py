"""On ParaView's PYTHONPATH: gives Python 3.11 and later back what ParaView 5.11 asks for before it loads a plugin."""

import inspect

if not hasattr(inspect, "getargspec"):
    inspect.getargspec = inspect.getfullargspec
