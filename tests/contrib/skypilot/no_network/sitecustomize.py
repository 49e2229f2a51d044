"""SkyPilot asks two public servers whether there is a network: let it ask its own server instead.

Python imports this file at its start where the folder is on PYTHONPATH.
"""

import importlib.abc
import importlib.util
import sys

_ASKS = "sky.backends.backend_utils"
_ITS_OWN = "http://127.0.0.1:46580/api/health"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != _ASKS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def patched(module):
            execute(module)
            module._TEST_IP_LIST[:] = [_ITS_OWN]

        spec.loader.exec_module = patched
        return spec


sys.meta_path.insert(0, _Finder())
