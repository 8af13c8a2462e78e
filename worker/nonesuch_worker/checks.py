"""What `nonesuch doctor` says about this machine as a worker."""

from collections.abc import Iterator

from nonesuch.doctor import Context, Finding
from nonesuch.errors import NonesuchError


def generators(context: Context) -> Iterator[Finding]:
    """Every packaged generator is loaded and its sha256 checked; the device they would run on is named."""
    try:
        import torch

        from nonesuch_worker.generators.load import load_generator, packaged
    except ModuleNotFoundError as error:
        yield Finding("generators", "note", f"{error.name} is not installed", "pip install 'nonesuch[worker]'")
        return
    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    yield Finding("device", "ok", f"{device}, {torch.get_num_threads()} threads")
    names = packaged()
    if not names:
        yield Finding("generators", "fail", "none is packaged", "install nonesuch again: its package data is missing")
    for name in names:
        try:
            info = load_generator(name).info
        except NonesuchError as error:
            yield Finding(f"generator {name}", "fail", "it cannot be loaded", str(error))
        else:
            shape = "×".join(map(str, info.image_shape))
            yield Finding(f"generator {name}", "ok", f"{shape}, {len(info.class_names)} classes, {info.sha256[:12]}…")
