"""Types of the compiled module; the arguments are explained in headsplat/raster/cpu/__init__.py."""

import numpy as np

class Frame: ...
class Rig: ...

Table = tuple[np.ndarray, np.ndarray, np.ndarray]

def isa() -> str: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...
def forward(
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    features: np.ndarray,
    viewmat: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
    background: np.ndarray,
    rules: np.ndarray,
    with_depth: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, Frame]: ...
def backward(
    frame: Frame,
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    features: np.ndarray,
    image: np.ndarray,
    alpha: np.ndarray,
    depth: np.ndarray | None,
    grad_image: np.ndarray,
    grad_alpha: np.ndarray | None,
    grad_depth: np.ndarray | None,
) -> tuple[np.ndarray, ...]: ...
def mesh(
    points: np.ndarray, faces: np.ndarray, width: int, height: int, near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def pack_rig(
    means: np.ndarray,
    quats: np.ndarray,
    scales: np.ndarray,
    opacities: np.ndarray,
    features: np.ndarray,
    skin_joints: np.ndarray,
    skin_weights: np.ndarray,
    expression_means: Table | None,
    expression_frames: Table | None,
    expression_appearance: Table | None,
) -> Rig: ...
def render_rig(
    rig: Rig,
    weights: np.ndarray,
    joint_transforms: np.ndarray | None,
    viewmat: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
    background: np.ndarray,
    rules: np.ndarray,
    with_depth: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]: ...
