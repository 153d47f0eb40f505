"""Packs an image and its overlay into a new image, in a separate process: ``python -m … FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.routing.image import image_parts
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.stores.files.routing_description import description_of
from foreshard.stores.files.routing_file import RoutingFile, random_seeds, read_routing


def compact(folder: Path) -> bool:
    """Replace the image in ``folder``. Return False if another process has replaced it in the meantime."""
    file = RoutingFile(folder)
    saved = read_routing(file.path)
    placements = saved.table.placements
    first = placements.base.names if isinstance(placements, PackedPlacements) else ()
    parts = image_parts(pack(placements.values(), random_seeds(), first), description_of(saved))
    before = file.image()
    with file.locked():
        if file.image() != before:
            return False
        file.keep(file.write(parts), saved)
    return True


def main() -> int:
    """Compact the folder given on the command line."""
    try:
        compact(Path(sys.argv[1]))
    except (OSError, ForeshardError) as error:
        print(f"foreshard: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
