"""The page in which a model cuts what is typed, and goes on writing: served (`hnet-lm serve`), or as a folder of static
files in which the model itself runs in the browser (`hnet-lm export web`)."""
