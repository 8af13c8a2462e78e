"""What `nonesuch doctor` says about this machine as a worker."""

from collections.abc import Iterator

from nonesuch.doctor import Context, Finding
from nonesuch.errors import NonesuchError


def generators(context: Context) -> Iterator[Finding]:
    """Every generator, packaged or in the library, is loaded and its sha256 checked; the device is named."""
    try:
        import torch

        from nonesuch_worker.generators.library import library
        from nonesuch_worker.generators.load import load_generator, packaged
    except ModuleNotFoundError as error:
        yield Finding("generators", "note", f"{error.name} is not installed", "pip install 'nonesuch[worker]'")
        return
    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    yield Finding("device", "ok", f"{device}, {torch.get_num_threads()} threads")
    if not packaged():
        yield Finding("generators", "fail", "none is packaged", "install nonesuch again: its package data is missing")
    for name in dict.fromkeys(packaged() + library()):
        try:
            info = load_generator(name).info
        except NonesuchError as error:
            yield Finding(f"generator {name}", "fail", "it cannot be loaded", str(error))
        else:
            shape = "×".join(map(str, info.image_shape))
            yield Finding(f"generator {name}", "ok", f"{shape}, {len(info.class_names)} classes, {info.sha256[:12]}…")
