"""Warming the document cache: jobs that put every row of a namespace into it, and the upstream's warm hint."""

from hevlayer.gateway.warm.auto import AutoWarm
from hevlayer.gateway.warm.hint import HintRoutes
from hevlayer.gateway.warm.routes import WarmRoutes
from hevlayer.gateway.warm.service import Complete, Started, TooLarge, Warms

__all__ = ["AutoWarm", "Complete", "HintRoutes", "Started", "TooLarge", "WarmRoutes", "Warms"]
