"""Where the configurations are: inside the package where a wheel has put them, beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())
