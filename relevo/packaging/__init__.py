"""The model package: one folder that holds a trained model, its ONNX form, what is known about it, and a digest of every file.

`save` writes one, `package` reads one, `store` keeps them by name and version. The server (`relevo.serving`) and the trainer
(`model`) are its users.
"""

from relevo.packaging.compatibility import check_candidate
from relevo.packaging.package import Package, load_package
from relevo.packaging.save import TrainingResult, save_package
from relevo.packaging.store import PackageRef, list_packages, package_folder, resolve

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
