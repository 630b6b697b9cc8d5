"""python -m pipeline.cli, the same as twinsynth."""

from pipeline.cli.main import main

raise SystemExit(main())
