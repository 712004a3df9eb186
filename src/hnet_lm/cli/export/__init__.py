"""`hnet-lm export NAME`: a saved model as others read it; by a format of one's own as well."""

from hnet_lm.cli.export.format import Export
from hnet_lm.cli.group import Group
from hnet_lm.errors import UserError
from hnet_lm.registry import Kind

EXPORTS: Kind[Export] = Kind(
    "export",
    "hnet_lm.cli.export.format:Export",
    "hnet_lm.exports",
    {"hf": "hnet_lm.cli.export.hf:ExportHuggingFace", "web": "hnet_lm.cli.export.web:ExportWeb"},
    UserError,
)

parse = Group("export", EXPORTS, "what to write").parse
