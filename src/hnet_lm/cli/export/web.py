"""`hnet-lm export web`."""

from dataclasses import dataclass
from pathlib import Path

from hnet_lm.cli.export.format import Export
from hnet_lm.cli.loading import load_model
from hnet_lm.inputs import local
from hnet_lm.outputs import OutputFolder
from hnet_lm.training.followed_run import FollowedRun
from hnet_lm.web.exporting import web_files


@dataclass(frozen=True)
class ExportWeb(Export):
    """A folder of static files: a page in which the model runs, in any browser and without a network."""

    name: str | None = None
    """What the page calls the model; by default the last part of MODEL."""

    def run(self) -> None:
        folder = OutputFolder.tried(self.directory)
        name = self.name or self.model.rstrip("/").rpartition("/")[2]
        model = load_model(self.model, "cpu")
        run = FollowedRun.of(Path(local(self.model)))
        files = web_files(model, name, None if run is None else run.summary())
        folder.write(files)
        size = sum(len(content.encode()) for content in files.values())
        print(f"{self.directory}: {size / 1e6:.1f} MB; open index.html, or put the folder on any web server")
