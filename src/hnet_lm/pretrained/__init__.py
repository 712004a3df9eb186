"""Language models of others: directories as transformers saves them, as models of tokens of this package."""

from hnet_lm.pretrained.importing import import_pretrained

__all__ = ["import_pretrained"]
