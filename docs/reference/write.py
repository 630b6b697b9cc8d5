"""Write the pages of this folder that are made from the code: params.md, verbs.md and api.md.

python docs/reference/write.py [--to FOLDER]
"""

import argparse
from pathlib import Path

import api_page
import params_page
import verbs_page

HERE = Path(__file__).parent


def main() -> None:
    """Write all pages."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--to", type=Path, default=HERE, metavar="FOLDER")
    folder = command.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    dvc = HERE.parents[1] / "dvc.yaml"
    pages = {"params.md": params_page.page(dvc), "verbs.md": verbs_page.page(), "api.md": api_page.page()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
