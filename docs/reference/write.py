"""Write the pages of this folder that are made from the code: params.md and verbs.md.

python docs/reference/write.py [--to FOLDER]
"""

import argparse
from pathlib import Path

import params_page
import verbs_page

HERE = Path(__file__).parent


def main() -> None:
    """Write both pages."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--to", type=Path, default=HERE, metavar="FOLDER")
    folder = command.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"params.md": params_page.page(HERE.parents[1] / "dvc.yaml"), "verbs.md": verbs_page.page()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
