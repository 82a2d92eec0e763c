"""The model package: one folder that holds a trained model, its ONNX form, what is known about it, and a digest of every file.

`save` writes one, `package` reads one, `store` keeps them by name and version. The server (`relevo.serving`) and the trainer
(`model`) are its users.
"""

from typing import TYPE_CHECKING, Any

from relevo.packaging.compatibility import check_candidate
from relevo.packaging.package import Package, load_package
from relevo.packaging.store import PackageRef, list_packages, package_folder, resolve

if TYPE_CHECKING:
    from relevo.packaging.save import TrainingResult, save_package

__all__ = [
    "Package",
    "PackageRef",
    "TrainingResult",
    "check_candidate",
    "list_packages",
    "load_package",
    "package_folder",
    "resolve",
    "save_package",
]


def __getattr__(name: str) -> Any:
    # Only a trainer writes packages; NumPy, joblib and Jinja2 would cost every other command half a second.
    if name in ("TrainingResult", "save_package"):
        from relevo.packaging import save

        return getattr(save, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
